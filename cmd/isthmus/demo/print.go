package demo

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/isthmus-mesh/isthmus/drill/report"
)

// Print writes the path, the drill and the verdict for people.
func (r Report) Print(w io.Writer) error {
	fmt.Fprintln(w)
	r.Path.print(w)
	r.Plain.print(w)
	r.Page.print(w)
	fmt.Fprintln(w)
	if err := report.Table(w, r.Drill); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, s := range r.Steps {
		fmt.Fprintf(w, "%6.1f s  %s\n", s.Seconds, s.Name)
	}
	_, err := fmt.Fprintf(w, "%6.1f s  in all\n\nVERDICT: %s\n", r.Seconds, strings.ToUpper(r.Verdict))
	return err
}

func (p Path) print(w io.Writer) {
	if p.URL == "" {
		return
	}
	fmt.Fprintf(w, "The path of one request: GET %s, status %d in %.1f ms\n", p.URL, p.Status, p.Millis)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	unknown := func(s string) string { return cmp.Or(s, "(not known)") }
	fmt.Fprintf(t, "  client\t%s\tpod %s (%s)\tis %s\n", p.Client.Cluster, p.Client.Pod, p.Client.Address, unknown(p.Client.Identity))
	fmt.Fprintf(t, "  its proxy\t%s\t%s in the same pod\tsends to %s, via %s, server name %s\n", p.Client.Cluster, p.Proxy.Container, unknown(p.Proxy.Address), unknown(p.Proxy.Via), unknown(p.Gateway.SNI))
	fmt.Fprintf(t, "  gateway\t%s\tpod %s (%s)\tpassed %d connections before, %d after; decrypts none\n", p.Gateway.Cluster, p.Gateway.Pod, unknown(p.Gateway.Address), p.Gateway.Before, p.Gateway.After)
	fmt.Fprintf(t, "  server\t%s\tpod %s, %s %s\tis %s\n", p.Server.Cluster, p.Server.Pod, p.Server.Service, p.Server.Version, unknown(p.Server.Identity))
	fmt.Fprintf(t, "  it saw\t\t\tcaller %s from cluster %s\n", unknown(p.Server.Caller.ID), unknown(p.Server.Caller.Cluster))
	_ = t.Flush() // the next write fails, too
	for _, problem := range p.Problems {
		fmt.Fprintf(w, "  PROBLEM: %s\n", problem)
	}
}

func (p Page) print(w io.Writer) {
	if p.URL == "" {
		return
	}
	fmt.Fprintf(w, "One page: productpage in %s (called by %s) took details %s from %s and reviews %s from %s",
		p.Page.Cluster, cmp.Or(p.Page.Caller.ID, "nobody known"), p.Details.Version, p.Details.Cluster, p.Reviews.Version, p.Reviews.Cluster)
	if p.Ratings.Pod != "" {
		fmt.Fprintf(w, ", which took ratings from %s", p.Ratings.Cluster)
	}
	fmt.Fprintln(w)
}
