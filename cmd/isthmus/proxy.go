package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/primary/ads"
)

func newProxyCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "What proxies were sent, acknowledged and refused",
	}
	cmd.AddCommand(newProxyListCommand(e), newProxyConfigCommand(e))
	return cmd
}

// proxyTypes are the types that proxies name themselves by.
var proxyTypes = []string{"sidecar", api.GatewayEastWest, api.GatewayEntry}

// proxyRow is a proxy and the context by whose control plane it is served.
type proxyRow struct {
	Context  string `json:"context"`
	Revision string `json:"revision"` // of the control plane
	ads.ProxyStatus
}

func newProxyListCommand(e *env) *cobra.Command {
	var out output
	var kind string
	cmd := &cobra.Command{
		Use:   "list [CONTEXT...]",
		Short: "List connected proxies with the state of each resource type",
		Long:  "List the proxies that are connected to the control planes of the contexts, all of the kubeconfig by default: sidecars, east-west gateways and entry gateways. The exit code is 3 when one refuses something.",
		Example: `  isthmus proxy list
  isthmus proxy list east -o json
  isthmus proxy list --type entry`,
		ValidArgsFunction: e.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			if kind != "" && !slices.Contains(proxyTypes, kind) {
				return usageErrorf("--type %q is none of %s", kind, strings.Join(proxyTypes, ", "))
			}
			rows, err := listProxies(cmd.Context(), e, args)
			if err != nil {
				return err
			}
			rows = slices.DeleteFunc(rows, func(r proxyRow) bool { return kind != "" && r.Type != kind })
			good := !slices.ContainsFunc(rows, func(r proxyRow) bool { return meshstatus.Refuses(r.ProxyStatus) })
			return finish(good, out, e.Out, map[string]any{"proxies": rows}, func(w io.Writer) error { return printProxies(w, rows) })
		},
	}
	addOutput(cmd, &out)
	cmd.Flags().StringVar(&kind, "type", "", "only proxies of this type: "+strings.Join(proxyTypes, ", "))
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(proxyTypes, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	return cmd
}

func listProxies(ctx context.Context, e *env, args []string) ([]proxyRow, error) {
	contexts, err := e.contexts(args)
	if err != nil {
		return nil, err
	}
	clusters, err := e.open(contexts)
	if err != nil {
		return nil, err
	}
	rows := []proxyRow{}
	var errs error
	for _, c := range clusters {
		ctx, cancel := context.WithTimeout(ctx, meshstatus.Patience)
		err := proxiesOf(ctx, c, clusters, func(revision string, proxies []ads.ProxyStatus) {
			for _, p := range proxies {
				rows = append(rows, proxyRow{c.Context, revision, p})
			}
		})
		cancel()
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("context %s: %w", c.Context, err))
		}
	}
	return rows, withHint(errs, "name the contexts that have the mesh: isthmus proxy list CONTEXT")
}

// proxiesOf asks every control plane of c, which is its primary's where it is a remote.
func proxiesOf(ctx context.Context, c *cluster.Cluster, clusters []*cluster.Cluster, use func(revision string, proxies []ads.ProxyStatus)) error {
	installed, err := clusterset.Find(ctx, c)
	if err != nil {
		return err
	}
	if installed == nil {
		return clusterset.ErrNotInstalled
	}
	home, err := meshstatus.Home(ctx, c, clusters)
	if err != nil {
		return err
	}
	if home == nil {
		return fmt.Errorf("it is a remote: name the context of cluster %s, too", installed.Primary)
	}
	return meshstatus.DebugRevisions(ctx, home, func(revision, _ string, view *cluster.Tunnel) error {
		proxies, err := meshstatus.ProxiesOf(ctx, view, installed.Cluster)
		use(revision, proxies)
		return err
	})
}

func printProxies(w io.Writer, rows []proxyRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CONTEXT\tPOD\tTYPE\tREVISION\tCONNECTED\tSTREAM\tCLUSTERS\tENDPOINTS\tLISTENERS\tROUTES\tREFUSED")
	now := time.Now()
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s/%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", r.Context, r.Namespace, r.Pod, r.Type, r.Revision, age(now, r.Connected), r.Protocol,
			typeText(r, "cds"), typeText(r, "eds"), typeText(r, "lds"), typeText(r, "rds"), refusals(r))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return printRefusals(w, rows)
}

// printRefusals says each refusal once, with how many proxies share it.
func printRefusals(w io.Writer, rows []proxyRow) error {
	counts := map[string]int{}
	for _, r := range rows {
		for _, ty := range r.Types {
			for name, refused := range ty.Refused {
				first, _, _ := strings.Cut(refused.Error, "\n")
				counts[fmt.Sprintf("%s %s: %s", ty.Type, name, first)]++
			}
		}
	}
	for _, text := range slices.Sorted(maps.Keys(counts)) {
		if _, err := fmt.Fprintf(w, "refused by %d: %s\n", counts[text], text); err != nil {
			return err
		}
	}
	return nil
}

// typeText is how many resources of a type (such as cds) were acknowledged, and how
// many sent where that differs.
func typeText(r proxyRow, kind string) string {
	for _, ty := range r.Types {
		if ty.Type != kind {
			continue
		}
		if ty.Synced {
			return fmt.Sprint(ty.Acked)
		}
		return fmt.Sprintf("%d of %d", ty.Acked, ty.Sent)
	}
	return "-"
}

func refusals(r proxyRow) int {
	n := 0
	for _, ty := range r.Types {
		n += len(ty.Refused)
	}
	return n
}

// proxyPages are what `proxy config` can show: the part's name and its page.
var proxyPages = map[string]string{
	"all": "/config_dump", "clusters": "/config_dump?type=Cluster", "endpoints": "/config_dump?type=ClusterLoadAssignment",
	"listeners": "/config_dump?type=Listener", "routes": "/config_dump?type=RouteConfiguration",
	"hosts": "/clusters", "certs": "/certs", "xds": "/xds", "stats": "/stats/prometheus", "open": "/listeners",
}

func newProxyConfigCommand(e *env) *cobra.Command {
	var namespace, context, part string
	cmd := &cobra.Command{
		Use:   "config POD",
		Short: "Print what a proxy holds, as it says itself",
		Long: `Print the resources that the proxy of a pod has accepted, or another page of its own: ` + strings.Join(sortedKeys(proxyPages), ", ") + `.
POD is NAMESPACE/NAME, or a name in the namespace of -n. The output is JSON, except for stats.`,
		Example: `  isthmus proxy config bookinfo/client-5f7c9 --context east
  isthmus proxy config isthmus-system/isthmus-eastwest-7d4 --part endpoints --context west
  isthmus proxy config isthmus-system/isthmus-entry-5c9 --part clusters      (entry|PORT: what each entry port leads to)`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			page, ok := proxyPages[part]
			if !ok {
				return usageErrorf("part %q is none of %s", part, strings.Join(sortedKeys(proxyPages), ", "))
			}
			pod := args[0]
			if ns, name, ok := strings.Cut(pod, "/"); ok {
				namespace, pod = ns, name
			}
			return showProxy(cmd.Context(), e, context, namespace, pod, page)
		},
	}
	var out output
	addOutput(cmd, &out) // JSON in either case
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "default", "the pod's namespace")
	cmd.Flags().StringVar(&context, "context", "", "context of the pod's cluster; default the current one")
	cmd.Flags().StringVar(&part, "part", "all", "what to print")
	return cmd
}

func showProxy(ctx context.Context, e *env, kubeContext, namespace, pod, page string) error {
	ctx, cancel := context.WithTimeout(ctx, meshstatus.Patience)
	defer cancel()
	c, err := cluster.Open(e.kubeconfig, kubeContext)
	if err != nil {
		return err
	}
	view, err := c.Forward(ctx, namespace, pod, api.PortAdmin)
	if err != nil {
		return withHint(err, "isthmus proxy list "+cmp.Or(kubeContext, c.Context)+" shows the pods that have a proxy")
	}
	defer view.Close()
	body, err := view.Get(ctx, page)
	if err != nil {
		return err
	}
	if json.Valid(body) {
		var indented bytes.Buffer
		if err := json.Indent(&indented, bytes.TrimSpace(body), "", "  "); err != nil {
			return err
		}
		body = append(indented.Bytes(), '\n')
	}
	_, err = e.Out.Write(body)
	return err
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
