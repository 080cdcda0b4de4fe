package drilling

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/sandbox"
)

// ErrCannot is wrapped where a scenario cannot be brought about on clusters of this kind.
var ErrCannot = errors.New("cannot be brought about here")

// breakRemote adds the changes that take lost, or the way to it, away.
func (p *Plan) breakRemote(ctx context.Context, lost string) error {
	if p.Spec.Scenario == drill.ScenarioSlow {
		return p.slowRemote(ctx, lost)
	}
	if err := p.chooseMeans(); err != nil {
		return err
	}
	if p.Spec.Means == drill.MeansUnderlay {
		p.changes = append(p.changes, drill.Change{Kind: drill.KindCut, Cut: p.cut(lost)})
		return nil
	}
	switch p.Spec.Scenario {
	case drill.ScenarioAPIServer:
		return p.breakAPI(ctx, lost, map[string]*cluster.Cluster{p.seen.home: p.seen.from})
	case drill.ScenarioWholeCluster:
		if err := p.breakGateway(ctx, lost); err != nil {
			return err
		}
		return p.breakAPI(ctx, lost, p.seen.members)
	}
	return p.breakGateway(ctx, lost)
}

// chooseMeans fills the means: what a sandbox's network does is nearer to a real failure than what we do ourselves.
func (p *Plan) chooseMeans() error {
	switch {
	case p.Spec.Means == drill.MeansUnderlay && p.seen.lab == nil:
		return unsafeError{fmt.Errorf("%s by means of the underlay %w: it takes a network that can be cut, which the sandbox has", p.Spec.Scenario, ErrCannot), "--means mesh (spec.means) works on any cluster; or rehearse it on a sandbox: isthmus sandbox up", false}
	case p.Spec.Means == "" && p.seen.lab == nil:
		p.Spec.Means = drill.MeansMesh
	case p.Spec.Means == "":
		p.Spec.Means = drill.MeansUnderlay
	}
	return nil
}

// breakGateway adds that the gateway of lost breaks its own listener. One that cannot, and is to refuse, is scaled away.
func (p *Plan) breakGateway(ctx context.Context, lost string) error {
	there, err := p.member(lost)
	if err != nil {
		return err
	}
	err = drill.GatewayBreaks(ctx, there)
	switch {
	case errors.Is(err, drill.ErrNotBuiltin) && p.Spec.Mode == drill.ModeRefuse && p.Spec.Scenario != drill.ScenarioWholeCluster:
		err = p.scaleGateway(ctx, there)
	case errors.Is(err, drill.ErrNotBuiltin):
		err = unsafeError{fmt.Errorf("%s (mode %s) %w: in %s, %w", p.Spec.Scenario, p.Spec.Mode, ErrCannot, lost, err), possible(lost), false}
	case err != nil:
		err = unsafeError{fmt.Errorf("the gateway of %s cannot be asked: %w", lost, err), "docs/drills.md lists the rights that a drill needs; isthmus status tells how the gateway is", false}
	default:
		p.changes = append(p.changes, drill.Change{Kind: drill.KindGateway, Context: there.Context, Namespace: api.SystemNamespace, Name: api.EastWestName, Fault: p.fault(lost)})
	}
	if err == nil {
		p.Findings = append(p.Findings, fine("note: the gateway of %s goes away for all clusters and all services", lost))
	}
	return err
}

func (p *Plan) fault(lost string) *drill.Fault { return &drill.Fault{Cluster: lost, Mode: p.Spec.Mode} }

func (p *Plan) scaleGateway(ctx context.Context, there *cluster.Cluster) error {
	change, err := drill.ScaleTo(ctx, there, api.SystemNamespace, api.EastWestName, 0)
	if err != nil {
		return err
	}
	p.changes = append(p.changes, change)
	return nil
}

// breakAPI adds that the control planes of readers, those that read lost, do without its API server.
func (p *Plan) breakAPI(ctx context.Context, lost string, readers map[string]*cluster.Cluster) error {
	for _, name := range sorted(readers) {
		in := readers[name]
		if name == lost {
			continue
		}
		err := drill.LinkBreaks(ctx, in, lost)
		if apierrors.IsNotFound(err) && name != p.seen.home {
			continue // it does not read it
		}
		if err != nil {
			return unsafeError{fmt.Errorf("the link from %s to %s cannot be broken: %w", name, lost, err), "docs/drills.md lists the rights that a drill needs; isthmus status lists the links", false}
		}
		p.changes = append(p.changes, drill.Change{Kind: drill.KindAPI, Context: in.Context, Namespace: api.SystemNamespace, Name: lost, Fault: p.fault(lost)})
	}
	for _, name := range sorted(p.seen.links) {
		if p.Spec.Scenario == drill.ScenarioWholeCluster && name != lost && p.seen.members[name] == nil {
			p.Findings = append(p.Findings, fine("note: no context of the kubeconfig leads to %s, whose control plane may go on reading %s", name, lost))
		}
	}
	return nil
}

// possible says what can be rehearsed with gateways of any kind.
func possible(lost string) string {
	return fmt.Sprintf("possible with any gateway: %s; or rehearse it on a sandbox: isthmus sandbox up", strings.Join([]string{
		drill.ScenarioGatewayRefuse + " (the gateway of " + lost + " is scaled away)", drill.ScenarioFlap, drill.ScenarioAPIServer,
		drill.ScenarioSlow, drill.ScenarioControlPlane, drill.ScenarioLocalEndpoints,
	}, ", "))
}

// member returns a cluster by its name in the mesh.
func (p *Plan) member(name string) (*cluster.Cluster, error) {
	if c, ok := p.seen.members[name]; ok {
		return c, nil
	}
	return nil, unsafeError{fmt.Errorf("no context of the kubeconfig leads to %s, and %s changes something there", name, p.Spec.Scenario), "kubectl config get-contexts lists them; --kubeconfig names another file", false}
}

// cut is the cut of the sandbox's network that the scenario is.
func (p *Plan) cut(lost string) *drill.Cut {
	c := &drill.Cut{Dir: p.seen.lab.Dir(), From: p.seen.from.Context, To: lost, Mode: p.Spec.Mode, What: string(sandbox.Gateway)}
	if there, ok := p.seen.members[lost]; ok {
		c.To = there.Context
	}
	switch p.Spec.Scenario {
	case drill.ScenarioAPIServer:
		c.What = string(sandbox.API)
	case drill.ScenarioWholeCluster:
		c.From, c.What = "", string(sandbox.All)
	}
	return c
}

func (p *Plan) slowRemote(ctx context.Context, lost string) error {
	there, err := p.member(lost)
	if err != nil {
		return err
	}
	given, kind, err := drill.GatewayByHand(ctx, there)
	if err != nil {
		return err
	}
	if given != "" {
		p.Findings = append(p.Findings, refused("take the annotation "+api.AnnotationGatewayAddresses+" away first", "the gateway of %s has addresses given by hand (%s), which would be lost", lost, given))
	}
	p.changes = append(p.changes, drill.Change{
		Kind: drill.KindSlow, Context: there.Context, Namespace: api.SystemNamespace, Name: drill.RelayName,
		Relay: &drill.Relay{Cluster: lost, Delay: durationOf(p.Spec.Delay), Image: p.image(), Type: kind},
	})
	return nil
}

// hands reach clusters by the kubeconfig, and the sandbox that a change names.
func hands(kubeconfig string) drill.Hands {
	return drill.Hands{
		Open: func(name string) (*cluster.Cluster, error) { return cluster.Open(kubeconfig, name) },
		Cut: func(ctx context.Context, c drill.Cut) error {
			lab, err := sandbox.Attach(c.Dir)
			if err != nil {
				return err
			}
			// A cut that is under way when we are interrupted is waited for, and then healed.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
			defer cancel()
			return lab.Cut(ctx, c.From, c.To, sandbox.Mode(c.Mode), sandbox.What(c.What))
		},
		Heal: func(ctx context.Context, dir string) error {
			lab, err := sandbox.Attach(dir)
			if errors.Is(err, sandbox.ErrNotRunning) {
				return nil // gone, and its cuts with it
			}
			if err != nil {
				return err
			}
			return lab.Heal(ctx)
		},
	}
}
