package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/drill"
)

// The drill's objectives and lengths: short, since somebody watches.
var objectives = drill.Objectives{Recover: 5 * time.Second, FailBack: 45 * time.Second, ErrorRate: 0.01}

func (r *run) drill(ctx context.Context) error {
	client, err := clientPod(ctx, r.east)
	if err != nil {
		return err
	}
	away := func(ctx context.Context) error {
		pods, err := r.west.Pods(ctx, Namespace, "app=reviews")
		if err == nil && len(pods) == 0 {
			err = fmt.Errorf("%w: no reviews are running in %s", drill.ErrUnsafe, r.opts.West)
		}
		return err
	}
	scenario, err := drill.LocalEndpoints(ctx, r.east, r.opts.East, Namespace, "reviews", away)
	if err != nil {
		return err
	}
	want := objectives
	want.Home, want.Away = r.opts.East, r.opts.West
	load := drill.PodLoad{
		Cluster: r.east, Namespace: Namespace, Pod: client.Name, Container: "client",
		URL:  "http://reviews." + Namespace + ".svc.clusterset.local:9080/reviews/0",
		Rate: r.opts.Rate, Timeout: 5 * time.Second,
	}
	r.report.Drill, err = drill.Run(ctx, drill.Options{
		Scenario: scenario, Objectives: want, Load: load.Run,
		Baseline: 3 * time.Second, Hold: 8 * time.Second, After: 2 * time.Second,
		Progress: func(step string) { r.opts.Progress("", step, 0) },
	})
	return err
}
