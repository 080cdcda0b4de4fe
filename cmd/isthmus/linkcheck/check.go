// Package linkcheck proves links: not that they were set up, but that they work
// now, each part by somebody who really did it.
package linkcheck

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/precheck"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// side is what one cluster showed.
type side struct {
	cluster   *cluster.Cluster
	status    meshstatus.Cluster
	installed *clusterset.Installed
	bundle    []byte
	skew      time.Duration // of its API server against this machine
	skewErr   error
	dns       precheck.Finding
	entry     entrySide
	pods      []precheck.Finding // namespaces whose Pod Security refuses sidecars
}

// Run checks every link that the clusters have to one another, and that they
// have one each way.
func Run(ctx context.Context, clusters []*cluster.Cluster) precheck.Report {
	status := meshstatus.Collect(ctx, clusters)
	sides := make([]side, len(clusters))
	var wg sync.WaitGroup
	for i, c := range clusters {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, meshstatus.Patience)
			defer cancel()
			sides[i] = look(ctx, c, status.Clusters[i])
		})
	}
	wg.Wait()
	var findings []precheck.Finding
	for i := range sides {
		findings = append(findings, sides[i].own()...)
		for j := range sides {
			if i != j {
				findings = append(findings, sides[i].reads(&sides[j])...)
			}
		}
	}
	return precheck.NewReport(findings)
}

func look(ctx context.Context, c *cluster.Cluster, status meshstatus.Cluster) side {
	s := side{cluster: c, status: status}
	if status.Error != "" {
		return s
	}
	s.installed, _ = clusterset.Find(ctx, c) // was read a moment ago; without it the findings below say so
	if m, err := c.Kube.CoreV1().ConfigMaps(api.SystemNamespace).Get(ctx, api.BundleConfigMapName, metav1.GetOptions{}); err == nil {
		s.bundle = bytes.TrimSpace([]byte(m.Data[api.BundleKey]))
	}
	s.skew, s.skewErr = precheck.Skew(ctx, c.Config)
	s.dns = lookUp(ctx, c, status.Imports)
	s.entry = lookAtEntry(ctx, c)
	s.pods = precheck.PodSecurity(ctx, c)
	return s
}

func finding(where, what string, ok bool, next, format string, args ...any) precheck.Finding {
	f := precheck.Finding{Where: where, What: what, State: precheck.OK, Message: fmt.Sprintf(format, args...)}
	if !ok {
		f.State, f.Next = precheck.Bad, next
	}
	return f
}

// own returns what there is to say of one cluster by itself.
func (s *side) own() []precheck.Finding {
	where, st := s.cluster.Context, s.status
	if st.Error != "" {
		return []precheck.Finding{finding(where, "mesh", false, "isthmus precheck "+where, "%s", st.Error)}
	}
	logs := "kubectl --context " + where + " -n " + api.SystemNamespace + " logs deploy/"
	out := []precheck.Finding{
		finding(where, "control plane", st.ControlPlane.OK() || st.Primary != "" && st.ControlPlane.Want == 0, logs+api.ControlPlaneName, "%d of %d ready", st.ControlPlane.Ready, st.ControlPlane.Want),
	}
	if st.Gateway.Want > 0 {
		out = append(out, finding(where, "gateway", st.Gateway.OK() && len(st.Gateway.Addresses) > 0, logs+api.EastWestName,
			"%d of %d ready, addresses %v", st.Gateway.Ready, st.Gateway.Want, st.Gateway.Addresses))
	}
	out = append(out, finding(where, "proxies", st.Proxies.Refusing == 0, "isthmus proxy list "+where, "%d connected, %d refuse something", st.Proxies.Connected, st.Proxies.Refusing), s.dns)
	out = append(out, s.entryFindings()...)
	out = append(out, s.pods...)
	for _, note := range st.Notes {
		out = append(out, precheck.Finding{Where: where, What: "not known", State: precheck.Warn, Message: note})
	}
	return out
}

// reads returns the findings about s reading o.
func (s *side) reads(o *side) []precheck.Finding {
	if s.status.Error != "" || o.status.Error != "" {
		return nil
	}
	where := s.status.Cluster + " reads " + o.status.Cluster
	i := slices.IndexFunc(s.status.Links, func(l meshstatus.Link) bool { return l.Cluster == o.status.Cluster })
	if i < 0 {
		return []precheck.Finding{finding(where, "link", false, fmt.Sprintf("isthmus link %s %s", s.cluster.Context, o.cluster.Context), "there is none")}
	}
	link := s.status.Links[i]
	again := fmt.Sprintf("isthmus link %s %s writes it anew", s.cluster.Context, o.cluster.Context)
	out := []precheck.Finding{
		finding(where, "link", link.State == v1alpha1.LinkConnected, again, "%s %s", link.State, link.Message),
		condition(where, link, v1alpha1.ConditionSecretValid, "secret", again),
		condition(where, link, v1alpha1.ConditionReachable, "API server", "can "+s.cluster.Context+" reach "+link.Server+"?"),
		condition(where, link, v1alpha1.ConditionSynced, "sync", again),
	}
	out = append(out, gateways(where, s, o, link)...)
	out = append(out, s.compare(o)...)
	return out
}

// condition turns a link's condition into a finding; one that nobody has written is bad.
func condition(where string, link meshstatus.Link, kind, what, next string) precheck.Finding {
	c := meta.FindStatusCondition(link.Conditions, kind)
	if c == nil {
		return finding(where, what, false, next, "the control plane has not said")
	}
	text := c.Message
	if text == "" {
		text = c.Reason
	}
	return finding(where, what, c.Status == metav1.ConditionTrue, next, "%s", text)
}

// gateways says what the prober of s, which ends each probe in an mTLS handshake with
// the right identity, sees of the gateways of o.
func gateways(where string, s, o *side, link meshstatus.Link) []precheck.Finding {
	if s.status.Network == o.status.Network {
		return []precheck.Finding{finding(where, "gateway", true, "", "not needed: one network")}
	}
	if len(link.Gateways) == 0 {
		return []precheck.Finding{finding(where, "gateway", false, "isthmus install "+o.cluster.Context+" --gateway-address HOST:PORT", "no address of a gateway is known")}
	}
	var out []precheck.Finding
	for _, g := range link.Gateways {
		text := "ends TLS with the gateway's identity"
		if !g.Answers {
			text = "silent: " + g.Message
		}
		out = append(out, finding(where, "gateway "+g.Address, g.Answers, "can pods of "+s.cluster.Context+" reach it? is a firewall between?", "%s", text))
	}
	return out
}

// maxSkew is the difference of clocks from which certificates become a risk.
const maxSkew = 10 * time.Second

// compare finds what must be equal on both sides; once for each pair.
func (s *side) compare(o *side) []precheck.Finding {
	if s.cluster.Context > o.cluster.Context {
		return nil
	}
	where := s.cluster.Context + ", " + o.cluster.Context
	out := []precheck.Finding{
		finding(where, "roots", len(s.bundle) > 0 && bytes.Equal(s.bundle, o.bundle), "install both from one root: --clusterset, or --root-cert and --root-key",
			"%s", equality(bytes.Equal(s.bundle, o.bundle))),
	}
	if s.installed != nil && o.installed != nil {
		same := s.installed.Tag == o.installed.Tag
		f := finding(where, "versions", true, "", "%s", equality(same))
		if !same {
			f.State, f.Message, f.Next = precheck.Warn, s.installed.Tag+" and "+o.installed.Tag, "bring both to one version"
		}
		out = append(out, f, finding(where, "trust domain", s.installed.TrustDomain == o.installed.TrustDomain, "install both with one --trust-domain",
			"%s, %s", s.installed.TrustDomain, o.installed.TrustDomain))
	}
	if s.skewErr == nil && o.skewErr == nil {
		apart := (s.skew - o.skew).Abs()
		out = append(out, finding(where, "clocks", apart <= maxSkew, "set both by NTP", "%s apart, to a second", apart.Round(time.Second)))
	}
	return out
}

func equality(same bool) string {
	if same {
		return "equal"
	}
	return "not equal"
}
