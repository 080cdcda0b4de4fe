//go:build conformance

package conformance

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// shortLived is the longest, in seconds, that a negative answer may be kept:
// the ttl that kubeadm's Corefile has.
const shortLived = 30

func negativeSpecs() []spec {
	ask := func(f *fixture) { f.callers, f.workload = true, deployment(1) }
	headlessly := func(f *fixture) {
		ask(f)
		headless(f.service)
	}
	return []spec{
		{Name: "AAAA has no record without IPv6, and the name exists", Section: "6", run: noIPv6, setUp: ask},
		{Name: "AAAA of a headless service has no record without IPv6, and the name exists", Section: "6", run: noIPv6, setUp: headlessly},
		{Name: "negative answers are short-lived", Section: "6", run: negativeTTL, setUp: ask},
		{Name: "a name that was asked for too early is found when it is there", Section: "6", run: askedEarly, setUp: func(f *fixture) {
			ask(f)
			f.exported = false
		}},
		{Name: "the version of the names is a TXT record", Section: "6", run: version, setUp: ask},
		{Name: "CLUSTER.NAME.NAMESPACE does not exist", Section: "6", run: noClusterName, setUp: ask},
		{Name: "CLUSTER.NAME.NAMESPACE of a headless service does not exist", Section: "6", run: noClusterName, setUp: headlessly},
		{Name: "a headless service without a ready pod has no name", Section: "6", run: noneReady, setUp: func(f *fixture) {
			headlessly(f)
			d := deployment(1)
			d.Spec.Template.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/never"}}
			f.workload = d
		}},
	}
}

func isNXDOMAIN(output string) error { return contains("NXDOMAIN")(output) }

func noIPv6(f *fixture) {
	f.podAddresses(f.clusters[0], 1)
	f.answers("nslookup "+f.name(), contains("Name:"))
	f.answers("nslookup -type=AAAA "+f.name()+".", func(output string) error {
		if strings.Contains(output, "NXDOMAIN") {
			return errors.New("the name does not exist")
		}
		return contains("No answer")(output)
	})
}

// lifetime finds both numbers whose smaller one is how long an answer is kept. (RFC 2308 §5)
var lifetime = regexp.MustCompile(`minimum = (\d+)\s+ttl = (\d+)`)

func negativeTTL(f *fixture) {
	f.answers("nslookup "+f.name(), contains("Name:"))
	for _, name := range []string{strings.Replace(f.name(), helloName, "nobody", 1), f.name("nobody", f.clusters[0].name), strings.Replace(f.name(), f.namespace, "nowhere", 1)} {
		f.answers("nslookup -debug "+name, func(output string) error {
			m := lifetime.FindStringSubmatch(output)
			if m == nil || isNXDOMAIN(output) != nil {
				return errors.New("no NXDOMAIN with SOA")
			}
			minimum, err1 := strconv.Atoi(m[1])
			ttl, err2 := strconv.Atoi(m[2])
			if min(minimum, ttl) > shortLived || err1 != nil || err2 != nil {
				return fmt.Errorf("kept for %d s", min(minimum, ttl))
			}
			return nil
		})
	}
}

// askedEarly gives the name less time than resolvers in between keep by default.
func askedEarly(f *fixture) {
	f.answers("nslookup "+f.name(), isNXDOMAIN)
	f.create(f.clusters[0], newExport())
	for _, c := range f.clusters {
		f.imported(c, hasAddress)
		f.before(5*time.Second, c.name+": the name", func(ctx context.Context) error {
			return contains("Name:")(f.ask(ctx, c, "nslookup "+f.name()))
		})
	}
}

func version(f *fixture) {
	f.answers("nslookup -type=TXT dns-version.clusterset.local", func(output string) error {
		if regexp.MustCompile(`text = "1\.\d+\.\d+"`).MatchString(output) {
			return nil
		}
		return errors.New("no version 1")
	})
}

func noClusterName(f *fixture) {
	f.podAddresses(f.clusters[0], 1)
	f.answers("nslookup "+f.name(), contains("Name:"))
	for _, c := range f.clusters {
		f.answers("nslookup "+f.name(c.name), isNXDOMAIN)
		f.answers("nslookup -type=SRV "+f.name(c.name), isNXDOMAIN)
	}
}

func noneReady(f *fixture) {
	f.eventually("the pod runs", func(ctx context.Context) error { return f.pods(ctx, f.clusters[0], 1) })
	for _, c := range f.clusters {
		f.imported(c, nil)
		f.answersIn(c, "nslookup "+f.name(), isNXDOMAIN)
		f.throughout("no name", func(ctx context.Context) error { return isNXDOMAIN(f.ask(ctx, c, "nslookup "+f.name())) })
	}
}
