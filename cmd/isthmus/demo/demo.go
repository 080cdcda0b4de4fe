// Package demo shows the mesh at work on two clusters: a sample application, an
// exported service, the path of one request, and a rehearsed failure.
package demo

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// Namespace is where the sample application lives, in both clusters.
const Namespace = "bookinfo"

// Options says how the demo gets its clusters. Its own part begins after that.
type Options struct {
	East, West string // names of the clusters, which are also their contexts

	// Up starts the clusters and returns the kubeconfig's path; Install and Link
	// make a mesh of them; Export exports a service of Namespace and waits for it.
	Up      func(ctx context.Context) (kubeconfig string, err error)
	Install func(ctx context.Context, clusters []*cluster.Cluster) error
	Link    func(ctx context.Context, clusters []*cluster.Cluster) error
	Export  func(ctx context.Context, c *cluster.Cluster, service string) error

	Rate float64 // requests per second of the drill; 0 means 50
	// Progress is told when a step begins (seconds is 0), of what happens within it,
	// and when it is done.
	Progress func(step, detail string, took time.Duration)
}

// Step is a part of the demo with its time.
type Step struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Report is what the demo has shown.
type Report struct {
	Steps   []Step       `json:"steps"`
	Path    Path         `json:"path"`
	Plain   Plain        `json:"plain"`
	Page    Page         `json:"page"`
	Drill   drill.Result `json:"drill"`
	Seconds float64      `json:"seconds"`
	Verdict string       `json:"verdict"` // drill.Pass or drill.Fail
}

// detailsURL is answered in west alone.
const detailsURL = "http://details." + Namespace + ".svc.clusterset.local:9080/details/0"

// run is one demo under way.
type run struct {
	opts       Options
	report     Report
	east, west *cluster.Cluster
}

// Run does the demo. The report holds what was done until an error came.
func Run(ctx context.Context, opts Options) (Report, error) {
	if opts.Rate == 0 {
		opts.Rate = 50
	}
	r := &run{opts: opts}
	r.report.Verdict = drill.Fail
	begin := time.Now()
	err := r.all(ctx)
	r.report.Seconds = round(time.Since(begin))
	return r.report, err
}

func (r *run) all(ctx context.Context) error {
	east, west := r.opts.East, r.opts.West
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{fmt.Sprintf("start two Kubernetes clusters, %s and %s, on two networks", east, west), r.up},
		{"install the mesh in both", func(ctx context.Context) error { return r.opts.Install(ctx, r.clusters()) }},
		{fmt.Sprintf("link %s and %s", east, west), func(ctx context.Context) error { return r.opts.Link(ctx, r.clusters()) }},
		{"deploy Bookinfo with sidecars in both", r.deploy},
		{fmt.Sprintf("export reviews and ratings from both, details from %s only", west), r.export},
		{fmt.Sprintf("follow one request from %s to %s", east, west), r.follow},
		{fmt.Sprintf("send it again from a pod without a sidecar, through the entry gateway of %s", east), r.plain},
		{fmt.Sprintf("ask for a page in %s, whose parts come from both", east), r.page},
		{fmt.Sprintf("drill: lose the reviews of %s under load", east), r.drill},
	}
	for _, step := range steps {
		if err := r.step(ctx, step.name, step.do); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	r.report.Verdict = r.report.Drill.Verdict
	if !r.report.Path.complete() || !r.report.Plain.complete() {
		r.report.Verdict = drill.Fail
	}
	return nil
}

func (r *run) step(ctx context.Context, name string, do func(context.Context) error) error {
	r.opts.Progress(name, "", 0)
	begin := time.Now()
	err := do(ctx)
	took := time.Since(begin)
	r.report.Steps = append(r.report.Steps, Step{Name: name, Seconds: round(took)})
	if err == nil {
		r.opts.Progress(name, "", took)
	}
	return err
}

func (r *run) clusters() []*cluster.Cluster { return []*cluster.Cluster{r.east, r.west} }

func (r *run) up(ctx context.Context) error {
	kubeconfig, err := r.opts.Up(ctx)
	if err != nil {
		return err
	}
	if r.east, err = cluster.Open(kubeconfig, r.opts.East); err != nil {
		return err
	}
	r.west, err = cluster.Open(kubeconfig, r.opts.West)
	return err
}

// deploy applies the samples in both clusters at once and waits until all are ready.
func (r *run) deploy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range r.clusters() {
		group.Go(func() error { return Deploy(ctx, c, c.Context) })
	}
	group.Go(func() error { return deployPlain(ctx, r.east) })
	return group.Wait()
}

func (r *run) export(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, x := range []struct {
		c       *cluster.Cluster
		service string
	}{{r.east, "reviews"}, {r.west, "reviews"}, {r.east, "ratings"}, {r.west, "ratings"}, {r.west, "details"}} {
		group.Go(func() error {
			if err := r.opts.Export(ctx, x.c, x.service); err != nil {
				return err
			}
			r.opts.Progress("", fmt.Sprintf("%s: %s.%s.svc.clusterset.local", x.c.Context, x.service, Namespace), 0)
			return nil
		})
	}
	return group.Wait()
}

func (r *run) follow(ctx context.Context) error {
	path, err := Follow(ctx, r.east, r.west, detailsURL)
	r.report.Path = path
	return err
}

func round(d time.Duration) float64 { return float64(d.Milliseconds()/10) / 100 }
