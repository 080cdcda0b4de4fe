package drilling

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// requestTimeout is how long one request of the load may take.
const requestTimeout = 5 * time.Second

// cleanUp bounds what is done after a drill, however it ended.
const cleanUp = 30 * time.Second

// Run does the drill: it notes it, runs the client, breaks, measures, restores, and takes client and
// note away. What could not be restored stays noted.
func (p *Plan) Run(ctx context.Context, kubeconfig string, progress func(step string)) (result drill.Result, err error) {
	if err := p.Safe(); err != nil {
		return result, err
	}
	hold, err := drill.Take(ctx, p.note(), p.holders())
	if errors.Is(err, drill.ErrRunning) {
		return result, unsafeError{err, nextAfter(err, p.seen.from.Context), false}
	}
	if err != nil {
		return result, err
	}
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	beats := make(chan struct{})
	go func() { defer close(beats); hold.Keep(beating) }()
	defer func() {
		stop()
		<-beats
		err = errors.Join(err, p.end(context.WithoutCancel(ctx), hands(kubeconfig), hold))
	}()
	for _, c := range p.changes {
		if err := c.Prepare(ctx, hands(kubeconfig)); err != nil {
			return result, fmt.Errorf("prepare: %s: %w", c, err)
		}
	}
	return p.measure(ctx, progress)
}

// end undoes all that the drill changed, once more, and then takes its note away.
func (p *Plan) end(ctx context.Context, h drill.Hands, hold *drill.Hold) error {
	ctx, cancel := context.WithTimeout(ctx, cleanUp)
	defer cancel()
	if err := drill.Undo(ctx, h, p.changes); err != nil {
		return unsafeError{fmt.Errorf("restore after the drill: %w", err), "isthmus drill restore --context " + p.seen.from.Context, false}
	}
	return hold.Release(ctx)
}

func (p *Plan) measure(ctx context.Context, progress func(string)) (drill.Result, error) {
	s := p.seen
	progress("start a client in " + s.namespace)
	pod, _, err := drill.StartClient(ctx, s.from, s.namespace, p.image())
	if err != nil {
		return drill.Result{}, err
	}
	load := drill.PodLoad{Cluster: s.from, Namespace: s.namespace, Pod: pod, Container: "client", URL: p.url(), Rate: p.Spec.Rate, Timeout: requestTimeout}
	result, err := drill.Run(ctx, drill.Options{
		Scenario: p.scenario, Objectives: p.objectives, Load: load.Run, Progress: progress,
		Baseline: durationOf(p.Spec.Baseline), Hold: durationOf(p.Spec.Duration), After: durationOf(p.Spec.After),
	})
	result.Service, result.From, result.Rate, result.Means = p.Spec.Service, s.home, p.Spec.Rate, p.Spec.Means
	return result, err
}

func (p *Plan) note() drill.Note {
	n := drill.Note{
		ID: rand.Text(), Owner: owner(), Since: time.Now().UTC(), Scenario: p.Spec.Scenario, Service: p.Spec.Service,
		From: p.seen.from.Context, Changes: p.changes,
	}
	for _, c := range p.holders() {
		n.Contexts = append(n.Contexts, c.Context)
	}
	return n
}

// owner says who runs this program, and where.
func owner() string {
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "an unnamed host"
	}
	return fmt.Sprintf("%s@%s (process %d)", name, host, os.Getpid())
}

// Restored says what a restore did.
type Restored struct {
	Context string   `json:"context"`
	Note    string   `json:"drill,omitempty"` // what was restored; empty: there was nothing
	Undone  []string `json:"undone,omitempty"`
}

// Restore undoes what a drill that ended badly has left changed, by its note in the cluster of
// the context. It may be done twice. A drill that still gives signs of life is left alone, unless force.
func Restore(ctx context.Context, kubeconfig, contextName string, force bool) (Restored, error) {
	c, _, err := open(ctx, kubeconfig, contextName)
	if err != nil {
		return Restored{}, err
	}
	out := Restored{Context: c.Context}
	note, err := drill.ReadNote(ctx, c)
	if err != nil || note == nil {
		return out, err
	}
	if note.Running(time.Now()) && !force {
		return out, unsafeError{fmt.Errorf("%w runs still: %s", drill.ErrRunning, note), fmt.Sprintf("end it by Ctrl-C where it runs; %s after its last sign of life (%s) no --force is needed", drill.Alive, note.Seen.UTC().Format(time.TimeOnly)), true}
	}
	out.Note = note.String()
	if err := drill.Undo(ctx, hands(kubeconfig), note.Changes); err != nil {
		return out, err
	}
	for _, change := range note.Changes {
		out.Undone = append(out.Undone, change.String())
	}
	return out, forget(ctx, kubeconfig, c, *note)
}

// forget takes a note away from c and from all others that hold it; what cannot be reached is told after that.
func forget(ctx context.Context, kubeconfig string, c *cluster.Cluster, note drill.Note) error {
	holders := []*cluster.Cluster{c}
	var errs error
	for _, name := range note.Contexts {
		if name == c.Context {
			continue
		}
		other, err := cluster.Open(kubeconfig, name)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("take the note of the drill from %s: %w", name, err))
			continue
		}
		holders = append(holders, other)
	}
	return errors.Join(errs, drill.Forget(ctx, note, holders))
}
