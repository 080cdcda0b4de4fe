package controllers

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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
	r.mu.Unlock()
	for _, key := range changedServices(old, s) {
		r.loop.add(key)
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

// own returns the conditions that we write, in our order.
func own(all []metav1.Condition) []metav1.Condition {
	var out []metav1.Condition
	for _, kind := range []mcsv1beta1.ServiceExportConditionType{mcsv1beta1.ServiceExportConditionValid, mcsv1beta1.ServiceExportConditionReady, mcsv1beta1.ServiceExportConditionConflict} {
		for _, c := range all {
			if c.Type == string(kind) {
				out = append(out, c)
			}
		}
	}
	return out
}

// exportConditions returns Valid, Ready and Conflict of an export, or nil while
// too little is known to say.
func exportConditions(s *federation.Snapshot, cluster federation.ClusterName, have *mcsv1beta1.ServiceExport, problems []federation.Problem, now metav1.Time) []metav1.Condition {
	if c := s.Cluster(cluster); c == nil || !c.Read {
		return nil
	}
	var invalid, conflicts, notes []federation.Problem
	for _, p := range problems {
		switch {
		case isInvalid(p.Reason):
			invalid = append(invalid, p)
		case strings.HasSuffix(p.Reason, "Conflict"):
			conflicts = append(conflicts, p)
		default:
			notes = append(notes, p)
		}
	}
	exported := false
	if svc := s.Service(federation.ServiceKey{Namespace: have.Namespace, Name: have.Name}); svc != nil {
		exported = slices.ContainsFunc(svc.Exports, func(e federation.Export) bool { return e.Cluster == cluster })
	}
	if len(invalid) == 0 && !exported {
		return pending(have, now)
	}
	out := []metav1.Condition{
		validCondition(invalid),
		readyCondition(invalid, notes),
		conflictCondition(conflicts),
	}
	for i := range out {
		out[i].ObservedGeneration = have.Generation
	}
	return withTimes(have.Status.Conditions, out, now)
}

// pending is for an export that is newer than the snapshot. One that has
// conditions keeps them for the moment.
func pending(have *mcsv1beta1.ServiceExport, now metav1.Time) []metav1.Condition {
	if len(own(have.Status.Conditions)) > 0 {
		return nil
	}
	return withTimes(nil, []metav1.Condition{{
		Type: string(mcsv1beta1.ServiceExportConditionReady), Status: metav1.ConditionUnknown,
		Reason: string(mcsv1beta1.ServiceExportReasonPending), ObservedGeneration: have.Generation,
	}}, now)
}

// isInvalid tells reasons for which nothing is exported.
func isInvalid(reason string) bool {
	switch reason {
	case string(mcsv1beta1.ServiceExportReasonNoService), string(mcsv1beta1.ServiceExportReasonInvalidServiceType), "InvalidName", "SystemNamespace":
		return true
	}
	return false
}

func validCondition(invalid []federation.Problem) metav1.Condition {
	out := metav1.Condition{Type: string(mcsv1beta1.ServiceExportConditionValid), Status: metav1.ConditionTrue, Reason: string(mcsv1beta1.ServiceExportReasonValid)}
	if len(invalid) > 0 {
		out.Status, out.Reason, out.Message = metav1.ConditionFalse, invalid[0].Reason, messages(invalid)
	}
	return out
}

func readyCondition(invalid, notes []federation.Problem) metav1.Condition {
	out := metav1.Condition{
		Type: string(mcsv1beta1.ServiceExportConditionReady), Status: metav1.ConditionTrue,
		Reason: string(mcsv1beta1.ServiceExportReasonExported), Message: messages(notes),
	}
	if len(invalid) > 0 {
		out.Status, out.Reason, out.Message = metav1.ConditionFalse, string(mcsv1beta1.ServiceExportReasonFailed), messages(invalid)
	}
	return out
}

// conflictCondition joins several reasons by commas. (KEP-1645)
func conflictCondition(conflicts []federation.Problem) metav1.Condition {
	out := metav1.Condition{Type: string(mcsv1beta1.ServiceExportConditionConflict), Status: metav1.ConditionFalse, Reason: string(mcsv1beta1.ServiceExportReasonNoConflicts)}
	if len(conflicts) == 0 {
		return out
	}
	var reasons []string
	for _, p := range conflicts {
		if !slices.Contains(reasons, p.Reason) {
			reasons = append(reasons, p.Reason)
		}
	}
	out.Status, out.Reason, out.Message = metav1.ConditionTrue, strings.Join(reasons, ","), messages(conflicts)
	return out
}

// messages joins messages within the API server's limit for a condition.
func messages(problems []federation.Problem) string {
	sorted := slices.SortedFunc(slices.Values(problems), func(a, b federation.Problem) int { return cmp.Compare(a.Reason, b.Reason) })
	var texts []string
	for _, p := range sorted {
		texts = append(texts, p.Message)
	}
	text := strings.Join(texts, "; ")
	const most = 4096
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
