package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/sandbox"
)

// underlay is a drill that cuts the sandbox's network between clusters.
type underlay struct {
	name, short, loses string
	what               sandbox.What
	expect             []v1alpha1.LinkState // any of them is what the mesh should say
	// needsOther says that the service must be served from elsewhere than the cluster
	// that is cut off.
	needsOther bool
}

func newDrillGatewayCommand(e *env) *cobra.Command {
	return newUnderlayCommand(e, underlay{
		name: "gateway", short: "Lose the way to a remote gateway: do requests go on, does the link say so?",
		loses: "the east-west gateway", what: sandbox.Gateway, expect: []v1alpha1.LinkState{v1alpha1.LinkDegraded, v1alpha1.LinkLost}, needsOther: true,
	})
}

func newDrillAPIServerCommand(e *env) *cobra.Command {
	return newUnderlayCommand(e, underlay{
		name: "api-server", short: "Lose the way to a remote API server: nothing may change but the link's state",
		loses: "the API server", what: sandbox.API, expect: []v1alpha1.LinkState{v1alpha1.LinkStale, v1alpha1.LinkLost},
	})
}

func newUnderlayCommand(e *env, u underlay) *cobra.Command {
	var f drillFlags
	var remote, mode string
	cmd := &cobra.Command{
		Use:   u.name,
		Short: u.short,
		Long:  u.short + "\nWorks on the sandbox only, whose network it cuts.",
		Example: fmt.Sprintf(`  isthmus drill %[1]s --context east --service bookinfo/reviews --path /reviews/0
  isthmus drill %[1]s --context east --service bookinfo/reviews --path /reviews/0 --mode drop`, u.name),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if mode != string(sandbox.Refuse) && mode != string(sandbox.Drop) {
				return usageErrorf("mode %q is neither %s nor %s", mode, sandbox.Refuse, sandbox.Drop)
			}
			return runDrill(cmd.Context(), e, f, func(_ context.Context, d *drillSetup) (drill.Scenario, error) {
				return u.scenario(d, remote, sandbox.Mode(mode))
			})
		},
	}
	f.add(cmd, e)
	cmd.Flags().StringVar(&remote, "remote", "", "the cluster that is cut off; default the only other one that exports the service")
	cmd.Flags().StringVar(&mode, "mode", string(sandbox.Refuse), "refuse: connections are refused; drop: packets vanish")
	return cmd
}

func (u underlay) scenario(d *drillSetup, remote string, mode sandbox.Mode) (drill.Scenario, error) {
	remote = cmp.Or(remote, d.away)
	if remote == "" {
		return drill.Scenario{}, usageErrorf("name the cluster that is cut off by --remote: %s", strings.Join(d.others, ", "))
	}
	lab, err := sandbox.Attach(os.Getenv("ISTHMUS_SANDBOX_DIR"))
	if err != nil {
		return drill.Scenario{}, withHint(err, "this drill cuts the network of a sandbox: isthmus sandbox up")
	}
	return drill.Scenario{
		Name:    u.name,
		What:    fmt.Sprintf("cut %s of %s off from %s (%s)", u.loses, remote, d.home, mode),
		Check:   func(ctx context.Context) error { return u.check(ctx, d, remote) },
		Break:   func(ctx context.Context) error { return lab.Cut(ctx, d.home, remote, mode, u.what) },
		Restore: lab.Heal,
		Noticed: func(ctx context.Context) error { return waitLink(ctx, d.cluster, remote, u.expect...) },
		Healed:  func(ctx context.Context) error { return waitLink(ctx, d.cluster, remote, v1alpha1.LinkConnected) },
	}, nil
}

// check refuses a cut of a link that is ill already, or after which nobody would answer.
func (u underlay) check(ctx context.Context, d *drillSetup, remote string) error {
	state, err := linkState(ctx, d.cluster, remote)
	if err != nil {
		return err
	}
	if state != v1alpha1.LinkConnected {
		return fmt.Errorf("%w: the link from %s to %s is %s already", drill.ErrUnsafe, d.home, remote, state)
	}
	others := slices.DeleteFunc(slices.Clone(d.others), func(name string) bool { return name == remote })
	if u.needsOther && !d.exported && len(others) == 0 {
		return fmt.Errorf("%w: only %s exports %s/%s", drill.ErrUnsafe, remote, d.namespace, d.name)
	}
	return nil
}

// waitLink waits until the link of c to remote is in one of the states.
func waitLink(ctx context.Context, c *cluster.Cluster, remote string, want ...v1alpha1.LinkState) error {
	return cluster.Until(ctx, "the link to "+remote, func(ctx context.Context) (string, error) {
		state, err := linkState(ctx, c, remote)
		if err != nil || slices.Contains(want, state) {
			return "", err
		}
		return fmt.Sprintf("it is %s", state), nil
	})
}

func linkState(ctx context.Context, c *cluster.Cluster, remote string) (v1alpha1.LinkState, error) {
	link, err := c.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("clusterlinks")).Namespace(api.SystemNamespace).Get(ctx, remote, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("read the link from %s to %s: %w", c.Context, remote, err)
	}
	state, _, err := unstructured.NestedString(link.Object, "status", "state")
	return v1alpha1.LinkState(state), err
}
