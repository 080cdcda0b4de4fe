package precheck

import (
	"context"
	"io"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// minVersion has native sidecars on by default.
const minVersion = "1.29.0"

// maxSkew is the difference of clocks from which certificates become a risk; they
// are backdated by a minute.
const maxSkew = 10 * time.Second

// lookAtServer reports whether the API server answers at all.
func (f *facts) lookAtServer(ctx context.Context, c *cluster.Cluster) bool {
	text, err := c.Version(ctx)
	if err != nil {
		f.add("API server", Bad, "kubectl --context "+c.Context+" version; is the cluster up, is the context right?", "does not answer: %v", err)
		return false
	}
	have, err := version.ParseGeneric(text)
	switch {
	case err != nil:
		f.add("version", Warn, "see that it is at least "+minVersion, "cannot read %q: %v", text, err)
	case have.LessThan(version.MustParseGeneric(minVersion)):
		f.add("version", Bad, "upgrade the cluster to "+minVersion+" or later", "%s has no native sidecars", text)
	default:
		f.add("version", OK, "", "%s", text)
	}
	if ns, err := c.Kube.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{}); err == nil {
		f.uid = string(ns.UID)
	}
	f.lookAtClock(ctx, c)
	return true
}

func (f *facts) lookAtClock(ctx context.Context, c *cluster.Cluster) {
	skew, err := Skew(ctx, c.Config)
	switch {
	case err != nil:
		f.add("clock", Warn, "compare the clocks of nodes by hand", "not known: %v", err)
	case skew.Abs() > maxSkew:
		f.add("clock", Bad, "set the clocks by NTP, here and there", "differs from this machine's by %s", skew)
	default:
		f.add("clock", OK, "", "within %s of this machine's", max(skew.Abs().Round(time.Second), time.Second))
	}
}

// Skew returns how far an API server's clock is ahead of ours, to about a second:
// its Date header has no finer grain.
func Skew(ctx context.Context, config *rest.Config) (time.Duration, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return 0, err
	}
	url, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url.JoinPath("version").String(), nil)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16)) // so that the connection can be used again
	date, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return 0, err
	}
	middle := begin.Add(time.Since(begin) / 2)
	return date.Add(500 * time.Millisecond).Sub(middle), nil
}
