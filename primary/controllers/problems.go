package controllers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/federation"
)

// Problems tells users what is wrong with objects that have no conditions for
// it, by an event on the object. ServiceExports have conditions; see Exports.
type Problems struct {
	local   *Local
	cluster federation.ClusterName
	loop    *loop

	mu   sync.Mutex
	open map[objectKey]federation.Problem // by namespace and event name
}

// NewProblems returns the controller of cluster's objects.
func NewProblems(local *Local, cluster federation.ClusterName, log *slog.Logger) *Problems {
	r := &Problems{local: local, cluster: cluster}
	r.loop = &loop{name: "problem", workers: 1, do: r.reconcile, log: log}
	return r
}

// Update hands over the newest snapshot; see Imports.Update.
func (r *Problems) Update(s *federation.Snapshot) {
	now := map[objectKey]federation.Problem{}
	for _, p := range s.Problems() {
		if _, ok := problemKinds()[p.Object.Kind]; ok && p.Object.Cluster == r.cluster {
			now[eventKey(p)] = p
		}
	}
	r.mu.Lock()
	before := r.open
	r.open = now
	r.mu.Unlock()
	for key := range now {
		if _, known := before[key]; !known {
			r.loop.add(key)
		}
	}
}

// Run works until ctx ends; only the elected replica runs it.
func (r *Problems) Run(ctx context.Context) error {
	return r.loop.run(ctx, func(context.Context) ([]objectKey, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		var out []objectKey
		for key := range r.open {
			out = append(out, key)
		}
		return out, nil
	})
}

// problemKinds are the kinds that get events.
func problemKinds() map[string]schema.GroupVersion {
	return map[string]schema.GroupVersion{
		"Service":            {Version: "v1"},
		"Pod":                {Version: "v1"},
		"ServiceImport":      {Group: "multicluster.x-k8s.io", Version: "v1beta1"},
		"PeerAuthentication": {Group: "security.istio.io", Version: "v1"},
	}
}

// eventKey is the same for the same problem, so that a new leader does not tell
// it twice.
func eventKey(p federation.Problem) objectKey {
	sum := sha256.Sum256([]byte(p.Object.Kind + "\x00" + p.Reason + "\x00" + p.Message))
	name := p.Object.Name
	if len(name) > 200 {
		name = name[:200]
	}
	return objectKey{Namespace: p.Object.Namespace, Name: name + "." + hex.EncodeToString(sum[:8])}
}

func (r *Problems) reconcile(ctx context.Context, key objectKey) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r.mu.Lock()
	p, still := r.open[key]
	r.mu.Unlock()
	if !still {
		return nil
	}
	about := &metav1.PartialObjectMetadata{}
	about.SetGroupVersionKind(problemKinds()[p.Object.Kind].WithKind(p.Object.Kind))
	found, err := present(r.local.Direct.Get(ctx, objectKey{Namespace: p.Object.Namespace, Name: p.Object.Name}, about))
	if err != nil || !found {
		return err
	}
	if err := r.local.apply(ctx, event(key, p, about, metav1.Now())); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	return nil
}

func event(key objectKey, p federation.Problem, about *metav1.PartialObjectMetadata, now metav1.Time) *corev1.Event {
	message := p.Message
	if len(message) > 1000 { // the API server takes 1,024 bytes
		message = message[:1000]
	}
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: about.GroupVersionKind().GroupVersion().String(), Kind: p.Object.Kind, Namespace: p.Object.Namespace, Name: p.Object.Name, UID: about.UID,
		},
		Reason: p.Reason, Message: message, Type: corev1.EventTypeWarning, Source: corev1.EventSource{Component: FieldOwner},
		ReportingController: "isthmus.dev/isthmusd", ReportingInstance: FieldOwner,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}
}
