package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

func newStatusCommand(e *env) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "status [CONTEXT...]",
		Short: "Show clusters, links, gateways, exports and proxies: the state, and since when",
		Long: `Show what the clusters say of themselves; without contexts, of all in the kubeconfig. Of the entry gateway: its ready
replicas and how much of its range of ports imports use. Of exports: which are refused, which are for chosen clusters (TO) only.
The exit code is 3 when something is not well.`,
		Example: `  isthmus status
  isthmus status east -o json`,
		ValidArgsFunction: e.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			contexts, err := e.contexts(args)
			if err != nil {
				return err
			}
			clusters, err := e.open(contexts)
			if err != nil {
				return err
			}
			report := meshstatus.Collect(cmd.Context(), clusters)
			return finish(report.Healthy, out, e.Out, report, func(w io.Writer) error { return printStatus(w, report) })
		},
	}
	addOutput(cmd, &out)
	return cmd
}

// contexts returns args, or all contexts of the kubeconfig where there are none.
func (e *env) contexts(args []string) ([]string, error) {
	if len(args) > 0 {
		return args, nil
	}
	names, err := cluster.Contexts(e.kubeconfig)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, withHint(fmt.Errorf("the kubeconfig has no contexts"), "name a file by --kubeconfig or $KUBECONFIG; or isthmus sandbox up")
	}
	return names, nil
}

// finish prints a report in either form and turns its verdict into the exit code.
func finish(good bool, out output, w io.Writer, report any, text func(io.Writer) error) error {
	var err error
	if out == outputJSON {
		err = printJSON(w, report)
	} else {
		err = text(w)
	}
	if err == nil && !good {
		err = errVerdict
	}
	return err
}

func printStatus(w io.Writer, report meshstatus.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CONTEXT\tCLUSTER\tTRAFFIC\tNETWORK\tKUBERNETES\tCONTROL PLANE\tGATEWAY\tENTRY GATEWAY\tPROXIES\tEXPORTS\tIMPORTS")
	for _, c := range report.Clusters {
		if c.Error != "" {
			fmt.Fprintf(t, "%s\t%s\t-\t%s; next: isthmus precheck %s\n", c.Context, "-", c.Error, c.Context)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", c.Context, c.Cluster, trafficText(report.Time, c.Drain), c.Network, c.Version,
			controlPlaneText(c), gatewayText(c.Gateway), entryGatewayText(c.Entry), proxiesText(c.Proxies), len(c.Exports), len(c.Imports))
	}
	printRevisions(t, report)
	printLinks(t, report)
	printExports(t, report)
	printDrills(t, report)
	for _, c := range report.Clusters {
		for _, p := range c.Problems {
			fmt.Fprintf(t, "problem seen by %s: %s %s/%s of %s: %s: %s\n", c.Cluster, p.Kind, p.Namespace, p.Name, p.Cluster, p.Reason, p.Message)
		}
		for _, note := range c.Notes {
			fmt.Fprintf(t, "not known of %s: %s\n", c.Context, note)
		}
	}
	return t.Flush()
}

// printDrills tells of each drill once: every cluster of the clusterset has its note.
func printDrills(t io.Writer, report meshstatus.Report) {
	told := map[string]bool{}
	for _, c := range report.Clusters {
		if c.Drill != "" && !told[c.Drill] {
			told[c.Drill] = true
			fmt.Fprintf(t, "drill: %s\n", c.Drill)
		}
	}
}

// printRevisions prints control planes beside the first ones, where there are any.
func printRevisions(t io.Writer, report meshstatus.Report) {
	if !slices.ContainsFunc(report.Clusters, func(c meshstatus.Cluster) bool { return len(c.Revisions) > 0 }) {
		return
	}
	fmt.Fprintln(t, "\nREVISION\tCLUSTER\tCONTROL PLANE\tTAG\tPROXIES")
	for _, c := range report.Clusters {
		for _, r := range c.Revisions {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d connected\n", r.Name, c.Cluster, replicas(r.Workload), r.Tag, r.Connected)
		}
	}
}

func printLinks(t io.Writer, report meshstatus.Report) {
	if !slices.ContainsFunc(report.Clusters, func(c meshstatus.Cluster) bool { return len(c.Links) > 0 }) {
		fmt.Fprintln(t, "\nno links")
		return
	}
	fmt.Fprintln(t, "\nLINK\tSTATE\tSINCE\tLAST REACHABLE\tGATEWAYS\tEXPORTS\tENDPOINTS\tMESSAGE")
	for _, c := range report.Clusters {
		for _, l := range c.Links {
			since, last := "-", "-"
			if l.Since != nil {
				since = age(report.Time, l.Since.Time)
			}
			switch {
			case meta.IsStatusConditionTrue(l.Conditions, v1alpha1.ConditionReachable):
				last = "now" // the time is written only when that changes
			case l.LastReachable != nil:
				last = age(report.Time, l.LastReachable.Time)
			}
			var gateways []string
			for _, g := range l.Gateways {
				state := "silent"
				if g.Answers {
					state = "answers"
				}
				gateways = append(gateways, g.Address+" "+state)
			}
			fmt.Fprintf(t, "%s reads %s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", c.Cluster, l.Cluster, stateText(l), since, last,
				cmp.Or(strings.Join(gateways, ", "), "-"), l.Exports, l.Endpoints, l.Message)
		}
	}
}

func printExports(t io.Writer, report meshstatus.Report) {
	if !slices.ContainsFunc(report.Clusters, func(c meshstatus.Cluster) bool { return len(c.Exports) > 0 }) {
		fmt.Fprintln(t, "\nno exports")
		return
	}
	fmt.Fprintln(t, "\nEXPORT\tCLUSTER\tTO\tVALID\tREADY\tCONFLICT\tENTRY\tLOCAL NAME\tMESSAGE")
	for _, c := range report.Clusters {
		for _, x := range c.Exports {
			fmt.Fprintf(t, "%s/%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.Namespace, x.Name, c.Cluster, cmp.Or(strings.Join(x.To, ","), "all"), validText(x),
				dash(x.Ready), dash(x.Conflict), cmp.Or(x.Entry, entryAllow), cmp.Or(x.LocalName, localNameLocal), x.Message)
		}
	}
}

// trafficText says what a cluster is given, and since when not all.
func trafficText(now time.Time, d *meshstatus.Drain) string {
	if d == nil {
		return "in use"
	}
	text := strings.ToUpper(d.Stage)
	if d.Share > 0 {
		text += fmt.Sprintf(" %d%%", d.Share)
	}
	if !d.Since.IsZero() {
		text += " for " + now.Sub(d.Since).Truncate(time.Second).String()
	}
	return text
}

// stateText is the link's state, and whether it is kept away from.
func stateText(l meshstatus.Link) string {
	text := string(l.State)
	if c := meta.FindStatusCondition(l.Conditions, v1alpha1.ConditionDraining); c != nil && c.Status == metav1.ConditionTrue {
		text += ", " + strings.ToLower(c.Reason)
	}
	return text
}

// controlPlaneText says whose it is where it is another cluster's.
func controlPlaneText(c meshstatus.Cluster) string {
	switch {
	case c.Primary == "":
		return replicas(c.ControlPlane)
	case c.ControlPlane.Want == 0:
		return "of " + c.Primary
	}
	return "of " + c.Primary + ", " + replicas(c.ControlPlane)
}

func replicas(w meshstatus.Workload) string { return fmt.Sprintf("%d/%d", w.Ready, w.Want) }

func gatewayText(g meshstatus.Gateway) string {
	if g.Want == 0 {
		return "none"
	}
	return fmt.Sprintf("%s %s", replicas(g.Workload), cmp.Or(strings.Join(g.Addresses, ","), "no address"))
}

// validText says that an export is refused in a word that is seen.
func validText(x meshstatus.Export) string {
	if x.Valid == string(metav1.ConditionFalse) {
		return "REFUSED"
	}
	return dash(x.Valid)
}

func entryGatewayText(e meshstatus.Entry) string {
	if e.Want == 0 {
		return "none"
	}
	text := replicas(e.Workload)
	if e.Ports.Size > 0 {
		text += fmt.Sprintf(" ports %s, %d used, %d free", e.Ports.Range, e.Ports.Used, e.Ports.Free())
	}
	return text
}

func proxiesText(p meshstatus.ProxyCount) string {
	text := fmt.Sprintf("%d connected, %d injected", p.Connected, p.Injected)
	if p.Refusing > 0 {
		text += fmt.Sprintf(", %d REFUSE", p.Refusing)
	}
	return text
}

// age is how long before now t was, roughly.
func age(now, t time.Time) string {
	return now.Sub(t).Truncate(time.Second).String() + " ago"
}
