package drilling

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// build adds what the scenario changes, checks and awaits.
func (p *Plan) build(ctx context.Context, h drill.Hands) error {
	s := p.seen
	p.scenario.Name = p.Spec.Scenario
	p.changes = []drill.Change{{Kind: drill.KindClient, Context: s.from.Context, Namespace: s.namespace, Name: drill.ClientName}}
	if s.exported(s.home) && s.ready[s.home] > 0 {
		p.objectives.Home = s.home
	}
	var err error
	switch p.Spec.Scenario {
	case drill.ScenarioLocalEndpoints:
		err = p.localEndpoints(ctx)
	case drill.ScenarioControlPlane:
		err = p.controlPlane(ctx)
	default:
		err = p.remote(ctx)
	}
	if err != nil {
		return err
	}
	broken := p.changes[1:]
	p.scenario.Break = func(ctx context.Context) error { return drill.Make(ctx, h, broken) }
	p.scenario.Restore = func(ctx context.Context) error { return drill.Undo(ctx, h, broken) }
	keep := func(ctx context.Context) error { return drill.Keep(ctx, h, broken) }
	if p.Spec.Scenario == drill.ScenarioFlap {
		p.scenario.During = flap(durationOf(p.Spec.Period), p.scenario.Break, p.scenario.Restore, keep)
	} else {
		p.scenario.Keep = keep
	}
	var whats []string
	for _, c := range broken {
		whats = append(whats, c.String())
	}
	p.scenario.What = strings.Join(whats, "; ")
	return nil
}

// flap mends and breaks in turn, beginning with a mending after one period. While it is broken, keep keeps it so.
func flap(period time.Duration, breakIt, mend, keep func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for broken := true; ; broken = !broken {
			if err := spend(ctx, period, broken, keep); err != nil || ctx.Err() != nil {
				return err
			}
			next := breakIt
			if broken {
				next = mend
			}
			if err := next(context.WithoutCancel(ctx)); err != nil { // half a change would race with the restore
				return err
			}
		}
	}
}

// spend waits for a period, or until ctx ends.
func spend(ctx context.Context, period time.Duration, broken bool, keep func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, period)
	defer cancel()
	if broken {
		if err := keep(ctx); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func (p *Plan) localEndpoints(ctx context.Context) error {
	s := p.seen
	changes, err := drill.ScaleAway(ctx, s.from, s.namespace, s.name)
	if err != nil {
		return err
	}
	p.changes = append(p.changes, changes...)
	p.objectives.Home, p.objectives.Lost = s.home, s.home
	if others := s.others(); len(others) == 1 {
		p.objectives.Away = others[0]
	}
	p.Findings = append(p.Findings, s.capacityFound(s.home), s.sharedFound(ctx, changes))
	p.Findings = append(p.Findings, s.linksFound("")...)
	return nil
}

func (p *Plan) controlPlane(ctx context.Context) error {
	s := p.seen
	change, err := drill.ScaleTo(ctx, s.from, api.SystemNamespace, api.ControlPlaneName, 0)
	if err != nil {
		return err
	}
	p.changes = append(p.changes, change)
	if change.Before == 0 {
		p.Findings = append(p.Findings, refused("isthmus status", "no control plane runs in %s", s.home))
	}
	p.Findings = append(p.Findings, s.servedFound())
	p.Findings = append(p.Findings, s.linksFound("")...)
	p.Findings = append(p.Findings, fine("while it is away no new pod of %s gets a sidecar, and endpoints that change are not seen there", s.home))
	p.scenario.Healed = func(ctx context.Context) error {
		return s.from.WaitDeployments(ctx, api.SystemNamespace, api.ControlPlaneName)
	}
	return nil
}

// servedFound refuses a service that nobody answers for as it is.
func (s *seen) servedFound() Finding {
	n := 0
	for _, ready := range s.ready {
		n += ready
	}
	if n == 0 {
		return refused("isthmus imports "+s.spec.Service, "no endpoint of %s is ready anywhere", s.spec.Service)
	}
	return fine("%d endpoint(s) of %s are ready", n, s.spec.Service)
}

// remote builds the scenarios that break another cluster, or the way to it.
func (p *Plan) remote(ctx context.Context) error {
	s := p.seen
	lost, err := s.lostCluster()
	if err != nil {
		return err
	}
	p.Spec.Remote = lost
	if err := p.breakRemote(ctx, lost); err != nil {
		return err
	}
	p.Findings = append(p.Findings, s.linksFound(lost)...)
	if p.Spec.Scenario != drill.ScenarioAPIServer && !(p.Spec.Scenario == drill.ScenarioWholeCluster && p.Spec.Means == drill.MeansUnderlay) {
		p.Findings = append(p.Findings, s.betweenFound(lost))
	}
	if p.Spec.Means == drill.MeansUnderlay {
		p.Findings = append(p.Findings, s.cutsFound(ctx))
	}
	switch p.Spec.Scenario {
	case drill.ScenarioAPIServer:
		p.Findings = append(p.Findings, s.servedFound())
		p.scenario.Noticed = p.linkIs(lost, v1alpha1.LinkStale, v1alpha1.LinkLost)
	case drill.ScenarioSlow:
		p.Findings = append(p.Findings, s.servedFound())
	default:
		p.objectives.Lost = lost
		p.Findings = append(p.Findings, s.capacityFound(lost), s.dependentsFound(lost))
	}
	switch p.Spec.Scenario {
	case drill.ScenarioGatewayRefuse, drill.ScenarioGatewayDrop:
		p.scenario.Noticed = p.linkIs(lost, v1alpha1.LinkDegraded, v1alpha1.LinkLost)
	case drill.ScenarioWholeCluster:
		p.scenario.Noticed = p.linkIs(lost, v1alpha1.LinkLost)
	}
	if p.objectives.Home != "" && p.Spec.Scenario != drill.ScenarioAPIServer {
		p.Findings = append(p.Findings, fine("note: %s answers for itself, so the loss of %s is to change nothing for it; start the drill from a cluster without own pods to see requests move", s.home, lost))
	}
	p.scenario.Healed = p.linkIs(lost, v1alpha1.LinkConnected)
	return nil
}

// errWhich is a mistake of whoever asked: the cluster that is meant is not clear.
type errWhich struct{ error }

// IsUsage reports whether err is a mistake on the command line.
func IsUsage(err error) bool {
	_, ok := err.(errWhich) //nolint:errorlint // made by this package, never wrapped
	return ok
}

// lostCluster is the cluster that is broken.
func (s *seen) lostCluster() (string, error) {
	others := s.others()
	switch {
	case s.spec.Remote == s.home:
		return "", errWhich{fmt.Errorf("remote %s is the cluster that the load comes from", s.home)}
	case s.spec.Remote != "" && s.links[s.spec.Remote] == "":
		return "", errWhich{fmt.Errorf("%s has no link to a cluster %q; it has links to %s", s.home, s.spec.Remote, strings.Join(sorted(s.links), ", "))}
	case s.spec.Remote != "":
		return s.spec.Remote, nil
	case len(others) == 0:
		return "", fmt.Errorf("%w: no cluster besides %s exports %s", drill.ErrUnsafe, s.home, s.spec.Service)
	case len(others) > 1:
		return "", errWhich{fmt.Errorf("name the cluster that is broken by --remote (spec.remote): %s", strings.Join(others, ", "))}
	}
	return others[0], nil
}

func (p *Plan) linkIs(remote string, want ...v1alpha1.LinkState) func(context.Context) error {
	return func(ctx context.Context) error { return waitLink(ctx, p.seen, remote, want) }
}

func waitLink(ctx context.Context, s *seen, remote string, want []v1alpha1.LinkState) error {
	return cluster.Until(ctx, "the link to "+remote, func(ctx context.Context) (string, error) {
		now := &seen{from: s.from, home: s.home, links: map[string]v1alpha1.LinkState{}, near: map[string]bool{}}
		if err := now.readLinks(ctx); err != nil {
			return "", err
		}
		for _, state := range want {
			if now.links[remote] == state {
				return "", nil
			}
		}
		return fmt.Sprintf("it is %s", orUnknown(now.links[remote])), nil
	})
}
