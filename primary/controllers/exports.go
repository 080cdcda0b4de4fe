package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/federation"
)

// Exports writes the conditions of the local cluster's ServiceExports: whether
// each is valid, exported, and at odds with another cluster's.
type Exports struct {
	local   *Local
	cluster federation.ClusterName
	loop    *loop

	mu       sync.Mutex
	snap     *federation.Snapshot
	follow   follower
	problems map[objectKey][]federation.Problem
}

// NewExports returns the controller of cluster's exports.
func NewExports(local *Local, cluster federation.ClusterName, log *slog.Logger) *Exports {
	r := &Exports{local: local, cluster: cluster}
	r.loop = &loop{name: "export", workers: 2, do: r.reconcile, log: log}
	return r
}

// Update hands over the newest snapshot; see Imports.Update.
func (r *Exports) Update(s *federation.Snapshot) {
	now := map[objectKey][]federation.Problem{}
	for _, p := range s.Problems() {
		if p.Object.Cluster == r.cluster && p.Object.Kind == "ServiceExport" {
			key := objectKey{Namespace: p.Object.Namespace, Name: p.Object.Name}
			now[key] = append(now[key], p)
		}
	}
	r.mu.Lock()
	old, before := r.snap, r.problems
	r.snap, r.problems = s, now
	changes := r.follow.next(s)
	r.mu.Unlock()
	for _, c := range changes {
		r.loop.add(c.key())
	}
	if clustersDiffer(old, s) {
		r.loop.again()
	}
	for key, problems := range now {
		if !slices.Equal(problems, before[key]) {
			r.loop.add(key)
		}
	}
	for key := range before {
		if _, still := now[key]; !still {
			r.loop.add(key)
		}
	}
}

// Run works until ctx ends; only the elected replica runs it.
func (r *Exports) Run(ctx context.Context) error {
	stop, err := watchKind(ctx, r.local, &mcsv1beta1.ServiceExport{}, func(o client.Object) { r.loop.add(client.ObjectKeyFromObject(o)) })
	if err != nil {
		return fmt.Errorf("watch exports: %w", err)
	}
	defer stop()
	return r.loop.run(ctx, func(ctx context.Context) ([]objectKey, error) {
		var list mcsv1beta1.ServiceExportList
		err := r.local.List(ctx, &list)
		var out []objectKey
		for i := range list.Items {
			out = append(out, client.ObjectKeyFromObject(&list.Items[i]))
		}
		return out, err
	})
}

func (r *Exports) reconcile(ctx context.Context, key objectKey) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var have mcsv1beta1.ServiceExport
	if found, err := present(r.local.Get(ctx, key, &have)); err != nil || !found || have.DeletionTimestamp != nil {
		return err
	}
	r.mu.Lock()
	snap, problems := r.snap, r.problems[key]
	r.mu.Unlock()
	want := exportConditions(snap, r.cluster, &have, problems, metav1.Now())
	if want == nil || equality.Semantic.DeepEqual(own(have.Status.Conditions), want) {
		return nil
	}
	out := &mcsv1beta1.ServiceExport{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	out.Status.Conditions = want
	if err := r.local.applyStatus(ctx, out); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("apply export status: %w", err)
	}
	return nil
}
