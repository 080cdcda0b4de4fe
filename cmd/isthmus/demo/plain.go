package demo

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/federation"
)

// Plain is the same request from a pod without a sidecar, through the entry gateway.
type Plain struct {
	URL    string  `json:"url"`
	Status int     `json:"status"`
	Millis float64 `json:"ms"`
	Client Client  `json:"client"` // has no identity
	// Entry is where the import sends pods without a sidecar: the entry gateway's address with the
	// port that it has for the import's.
	Entry    string   `json:"entry,omitempty"`
	Server   Server   `json:"server"`
	Problems []string `json:"problems,omitempty"`
}

// complete reports whether the request came through the entry gateway, under its identity.
func (p Plain) complete() bool { return p.Status == 200 && len(p.Problems) == 0 }

func (r *run) plain(ctx context.Context) error {
	pods, err := r.east.Pods(ctx, Namespace, "app=plain")
	if err != nil {
		return err
	}
	if len(pods) == 0 {
		return fmt.Errorf("no pod without a sidecar is running in %s/%s", r.east.Context, Namespace)
	}
	path := Path{}
	if err := path.ask(ctx, r.east, &pods[0], detailsURL); err != nil {
		return err
	}
	p := Plain{URL: detailsURL, Status: path.Status, Millis: path.Millis, Server: path.Server}
	p.Client = Client{Cluster: r.east.Context, Pod: pods[0].Name, Address: pods[0].Status.PodIP}
	if p.Entry, err = entryOf(ctx, r.east, r.west.Context, "details", detailsURL); err != nil {
		p.Problems = append(p.Problems, "entry gateway: "+err.Error())
	}
	p.check(len(pods[0].Spec.Containers)+len(pods[0].Spec.InitContainers), r.east.Context, r.west.Context)
	r.report.Plain = p
	return nil
}

// entryOf returns the entry gateway's address and port for target in c's import of a service from source.
func entryOf(ctx context.Context, c *cluster.Cluster, source, service, target string) (string, error) {
	u, err := url.Parse(target)
	if err != nil {
		return "", err
	}
	found, err := c.Kube.DiscoveryV1().EndpointSlices(Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: mcsv1beta1.LabelServiceName + "=" + service + "," + mcsv1beta1.LabelSourceCluster + "=" + source,
	})
	if err != nil {
		return "", err
	}
	for _, s := range found.Items {
		ports, err := federation.ParseEntryPorts(s.Annotations[api.AnnotationEntryPorts])
		if err != nil || len(s.Endpoints) == 0 {
			continue
		}
		i := slices.IndexFunc(ports, func(p federation.EntryPort) bool { return strconv.Itoa(int(p.Service)) == u.Port() })
		addr, err := netip.ParseAddr(s.Endpoints[0].Addresses[0])
		if i >= 0 && err == nil {
			return netip.AddrPortFrom(addr, ports[i].Port).String(), nil
		}
	}
	return "", fmt.Errorf("the import has no entry port for %s", u.Port())
}

// check says what is not as it should be.
func (p *Plain) check(containers int, east, west string) {
	identity := "/ns/" + api.SystemNamespace + "/sa/" + api.EntryName
	for _, c := range []struct {
		bad  bool
		text string
	}{
		{containers != 1, "the calling pod has a sidecar after all"},
		{p.Server.Cluster != west, fmt.Sprintf("the server says that it is in %q, not in %s", p.Server.Cluster, west)},
		{!strings.HasSuffix(p.Server.Caller.ID, identity), fmt.Sprintf("the server saw the caller %q, not the entry gateway", p.Server.Caller.ID)},
		{p.Server.Caller.Cluster != east, fmt.Sprintf("the caller's certificate names the cluster %q, not %s", p.Server.Caller.Cluster, east)},
	} {
		if c.bad {
			p.Problems = append(p.Problems, c.text)
		}
	}
}

func (p Plain) print(w io.Writer) {
	if p.URL == "" {
		return
	}
	fmt.Fprintf(w, "The same from a pod without a sidecar: status %d in %.1f ms\n", p.Status, p.Millis)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "  client\t%s\tpod %s (%s)\thas no identity\n", p.Client.Cluster, p.Client.Pod, p.Client.Address)
	fmt.Fprintf(t, "  entry gateway\t%s\t%s\tspeaks mTLS in its place\n", p.Client.Cluster, p.Entry)
	fmt.Fprintf(t, "  server\t%s\tpod %s\tsaw caller %s from cluster %s\n", p.Server.Cluster, p.Server.Pod, p.Server.Caller.ID, p.Server.Caller.Cluster)
	_ = t.Flush() // the next write fails, too
	for _, problem := range p.Problems {
		fmt.Fprintf(w, "  PROBLEM: %s\n", problem)
	}
}
