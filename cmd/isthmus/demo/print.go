package demo

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/isthmus-mesh/isthmus/drill"
)

// Print writes the path, the drill and the verdict for people.
func (r Report) Print(w io.Writer) error {
	fmt.Fprintln(w)
	r.Path.print(w)
	r.Plain.print(w)
	r.Page.print(w)
	fmt.Fprintln(w)
	if err := PrintDrill(w, r.Drill); err != nil {
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

// PrintDrill writes the table of one drill and its verdict.
func PrintDrill(w io.Writer, d drill.Result) error {
	if d.Scenario == "" {
		_, err := fmt.Fprintln(w, "No drill was done.")
		return err
	}
	fmt.Fprintf(w, "Drill %s: %s\n", d.Scenario, d.What)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "phase\tseconds\trequests\terrors\tp50 ms\tp99 ms\tanswered by\t")
	for _, p := range d.Phases {
		fmt.Fprintf(t, "%s\t%.1f\t%d\t%d\t%.1f\t%.1f\t%s\t\n", p.Name, p.Seconds, p.Requests, p.Failed, p.Latency.P50, p.Latency.P99, shares(p))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range d.Phases {
		if p.Failed > 0 {
			fmt.Fprintf(w, "errors while %s: %s; the last: %s\n", p.Name, kinds(p.Errors), p.LastError)
		}
	}
	fmt.Fprintf(w, "requests %d, errors %d, time to recover %.2f s, first answer from elsewhere after %s, home again after %s\n",
		d.Requests, d.Errors, d.RecoverSeconds, optional(d.SwitchSeconds), optional(d.FailBackSeconds))
	if d.NoticedSeconds != nil {
		fmt.Fprintf(w, "the mesh itself said so after %.2f s\n", *d.NoticedSeconds)
	}
	if d.HealedSeconds != nil {
		fmt.Fprintf(w, "and %.2f s after the restore that all is well\n", *d.HealedSeconds)
	}
	for _, reason := range d.Reasons {
		fmt.Fprintf(w, "not met: %s\n", reason)
	}
	_, err := fmt.Fprintf(w, "drill: %s\n", strings.ToUpper(d.Verdict))
	return err
}
