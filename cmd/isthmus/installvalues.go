package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/precheck"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install"
)

// readValues reads files, each over the one before it, and settings over them, as helm reads its
// -f and --set. The chart's schema checks what they give.
func readValues(files, settings []string) (map[string]any, error) {
	out := map[string]any{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read values: %w", err)
		}
		var given map[string]any
		if err := yaml.Unmarshal(data, &given); err != nil {
			return nil, fmt.Errorf("read values of %s: %w", file, err)
		}
		out = loader.MergeMaps(out, given)
	}
	for _, text := range settings {
		if err := strvals.ParseInto(text, out); err != nil {
			return nil, usageErrorf("--set %s: %v", text, err)
		}
	}
	return out, nil
}

// checkClusters looks at the clusters, as precheck does, before anything is changed. What is bad is an error
// that says all of it.
func checkClusters(ctx context.Context, targets []clusterset.Target, values install.Values) error {
	var plans []precheck.Plan
	synthetic, _ := values.Extra["syntheticRange"].(string)
	for _, t := range targets {
		plans = append(plans, precheck.Plan{Cluster: t.Cluster, Name: t.Name, Network: t.Network, Synthetic: synthetic})
	}
	report := precheck.RunPlans(ctx, plans)
	if err := ctx.Err(); err != nil {
		return err
	}
	var messages, next []string
	for _, f := range report.Findings {
		if f.State == precheck.Bad {
			messages = append(messages, fmt.Sprintf("%s: %s: %s", f.Where, f.What, f.Message))
			next = append(next, f.Next)
		}
	}
	if len(messages) == 0 {
		return nil
	}
	return withHint(errors.New("nothing was changed: "+strings.Join(messages, "\n  and ")), strings.Join(next, "\n  and "))
}

// printInstallation prints what would be installed in one cluster: every object, or the values by which helm installs it.
func printInstallation(ctx context.Context, f installFlags, home string, clusters []*cluster.Cluster, w io.Writer, note func(string)) error {
	if f.print != "manifests" && f.print != "values" {
		return usageErrorf("--print is manifests or values, not %q", f.print)
	}
	if len(clusters) > 1 {
		return usageErrorf("--print is for one cluster")
	}
	opts, err := f.options(ctx, home, clusters, note)
	if err != nil {
		return err
	}
	values, err := clusterset.Plan(ctx, opts)
	if err != nil {
		return err
	}
	if f.print == "values" {
		fmt.Fprintln(w, "# Values of cluster "+values.Cluster+" for the chart of Isthmus. They hold the key by which the cluster signs: keep them secret.")
		return printYAML(w, values.Chart())
	}
	objs, err := install.Render(values)
	if err != nil {
		return err
	}
	for _, obj := range objs {
		fmt.Fprintln(w, "---")
		if err := printYAML(w, obj.Object); err != nil {
			return err
		}
	}
	return nil
}

func printYAML(w io.Writer, v any) error {
	data, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}
