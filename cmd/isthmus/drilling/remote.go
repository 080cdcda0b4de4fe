package drilling

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/sandbox"
)

// ErrCannot is wrapped where a scenario cannot be brought about on clusters of this kind.
var ErrCannot = errors.New("cannot be brought about here")

// breakRemote adds the change that takes lost, or the way to it, away.
func (p *Plan) breakRemote(ctx context.Context, lost string) error {
	if p.Spec.Scenario == drill.ScenarioSlow {
		return p.slowRemote(ctx, lost)
	}
	if p.seen.lab != nil {
		p.changes = append(p.changes, drill.Change{Kind: drill.KindCut, Cut: p.cut(lost)})
		return nil
	}
	byScale := p.Spec.Mode == drill.ModeRefuse && (p.Spec.Scenario == drill.ScenarioGatewayRefuse || p.Spec.Scenario == drill.ScenarioFlap)
	if !byScale {
		return unsafeError{fmt.Errorf("%s (mode %s) %w: it takes a network that can be cut, which the sandbox has", p.Spec.Scenario, p.Spec.Mode, ErrCannot), possible(lost), false}
	}
	there, err := p.member(lost)
	if err != nil {
		return err
	}
	change, err := drill.ScaleTo(ctx, there, api.SystemNamespace, api.EastWestName, 0)
	if err != nil {
		return err
	}
	p.changes = append(p.changes, change)
	p.Findings = append(p.Findings, fine("note: without a network to cut, the gateway of %s goes away for all clusters and all services", lost))
	return nil
}

// possible says what can be rehearsed on clusters of any kind.
func possible(lost string) string {
	return fmt.Sprintf("possible on any cluster: %s; or rehearse it on a sandbox: isthmus sandbox up", strings.Join([]string{
		drill.ScenarioGatewayRefuse + " (the gateway of " + lost + " is scaled away)", drill.ScenarioFlap, drill.ScenarioSlow, drill.ScenarioControlPlane, drill.ScenarioLocalEndpoints,
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
	given, err := drill.GatewayByHand(ctx, there)
	if err != nil {
		return err
	}
	if given != "" {
		p.Findings = append(p.Findings, refused("take the annotation "+api.AnnotationGatewayAddresses+" away first", "the gateway of %s has addresses given by hand (%s), which would be lost", lost, given))
	}
	p.changes = append(p.changes, drill.Change{
		Kind: drill.KindSlow, Context: there.Context, Namespace: api.SystemNamespace, Name: drill.RelayName,
		Relay: &drill.Relay{Cluster: lost, Delay: durationOf(p.Spec.Delay), Image: p.image()},
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
