package watch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"

	"github.com/isthmus-mesh/isthmus/federation/ingest"
)

// Budget of one cluster. What is above the rate waits in the network, so that
// a cluster gone wild slows down itself alone.
const (
	defaultMaxObjects = 300_000
	eventsPerSecond   = 2_000
	eventBurst        = 20_000
)

// errBudget ends a feed whose cluster holds too many objects.
var errBudget = errors.New("over budget")

// ref names an object of one cluster.
type ref struct {
	kind ingest.Kind
	name ingest.Name
}

// feed reads one cluster and keeps its slimmed objects. It implements
// registry.Reader. The loop takes from it what changed.
type feed struct {
	source    *source
	resources []resource
	notify    func() // something changed; must not block
	limiter   flowcontrol.RateLimiter
	max       int // objects
	maxBytes  int
	synced    chan struct{}

	mu      sync.Mutex
	objects map[ref]ingest.Object
	bytes   int // of objects, as weigh counts
	dirty   map[ref]struct{}
	whole   bool // the loop has to compare everything
	listed  map[string]bool
	trouble map[string]error
	over    error
	cancel  context.CancelCauseFunc
}

func newFeed(config *rest.Config, client *http.Client, scheme *runtime.Scheme, resources []resource, max int, notify func()) *feed {
	return &feed{
		source: newSource(config, client, scheme), resources: resources, notify: notify, max: max, maxBytes: defaultMaxBytes,
		limiter: flowcontrol.NewTokenBucketRateLimiter(eventsPerSecond, eventBurst), synced: make(chan struct{}),
		objects: map[ref]ingest.Object{}, dirty: map[ref]struct{}{}, whole: true, listed: map[string]bool{}, trouble: map[string]error{},
	}
}

// Run reads until ctx ends, or until the cluster is over its budget.
func (f *feed) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(klog.NewContext(ctx, logr.Discard()))
	defer cancel(nil)
	f.mu.Lock()
	f.cancel = cancel
	f.mu.Unlock()
	defer f.limiter.Stop()
	var wg sync.WaitGroup
	for _, r := range f.resources {
		lw, err := f.source.listWatch(r, func(err error) { f.report(r.plural, err) })
		if err != nil {
			cancel(err)
			break
		}
		backoff := wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 4, Cap: 3 * time.Second}
		logger := logr.Discard()
		reflector := cache.NewReflectorWithOptions(lw, r.object, &store{f, r, ctx}, cache.ReflectorOptions{Name: r.plural, Backoff: &backoff, Logger: &logger})
		wg.Go(func() { reflector.RunWithContext(ctx) })
	}
	<-ctx.Done()
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// Synced is closed when every kind has been listed once.
func (f *feed) Synced() <-chan struct{} { return f.synced }

// Trouble names the kinds that cannot be read now, with the first error.
func (f *feed) Trouble() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.resources {
		if err := f.trouble[r.plural]; err != nil {
			return fmt.Sprintf("read %s: %v", r.plural, err)
		}
	}
	return ""
}

func (f *feed) report(plural string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil || errors.Is(err, context.Canceled) {
		delete(f.trouble, plural)
		return
	}
	f.trouble[plural] = err
}

// compareAll makes the next drain compare everything, as this feed takes the
// place of another.
func (f *feed) compareAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.whole = true
}

// delivery is what changed in a feed; a nil object is gone. A whole one holds all
// there is.
type delivery struct {
	objects map[ref]ingest.Object
	whole   bool
}

// drain hands over what changed since the last call.
func (f *feed) drain() delivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := delivery{make(map[ref]ingest.Object, len(f.dirty)), f.whole}
	if f.whole {
		maps.Copy(d.objects, f.objects)
	} else {
		for r := range f.dirty {
			d.objects[r] = f.objects[r]
		}
	}
	f.whole = false
	clear(f.dirty)
	return d
}

// count returns how many objects are held.
func (f *feed) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.objects)
}

// runs reports whether a pod of that account is held that has not ended.
func (f *feed) runs(namespace, account string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r, o := range f.objects {
		if r.kind != ingest.KindPod || r.name.Namespace != namespace {
			continue
		}
		if p, ok := o.(*ingest.Pod); ok && p.Account == account && !p.Done {
			return true
		}
	}
	return false
}

// put stores o under r, nil being gone. The caller holds mu.
func (f *feed) put(r ref, o ingest.Object) {
	old, had := f.objects[r]
	switch {
	case o == nil && !had:
		return
	case o == nil:
		delete(f.objects, r)
	default:
		f.objects[r] = o
	}
	f.bytes += weigh(o) - weigh(old)
	f.dirty[r] = struct{}{}
	f.shed()
}

// shed ends the feed where its cluster is over its budget. The caller holds mu.
func (f *feed) shed() {
	switch {
	case f.over != nil:
		return
	case len(f.objects) > f.max:
		f.over = fmt.Errorf("%w: the cluster has more than %d objects; what was read before stays", errBudget, f.max)
	case f.bytes > f.maxBytes:
		f.over = fmt.Errorf("%w: the cluster's objects take more than %d MiB; what was read before stays", errBudget, f.maxBytes>>20)
	default:
		return
	}
	f.cancel(f.over)
}

// store takes one kind's events from a reflector.
type store struct {
	f   *feed
	r   resource
	ctx context.Context //nolint:containedctx // the reflector's interface has none
}

func (s *store) Add(o any) error    { return s.set(o, false) }
func (s *store) Update(o any) error { return s.set(o, false) }
func (s *store) Delete(o any) error { return s.set(o, true) }
func (*store) Resync() error        { return nil }

func (s *store) set(o any, gone bool) error {
	if err := s.f.limiter.Wait(s.ctx); err != nil {
		return err
	}
	name, err := nameOf(o)
	if err != nil {
		return err
	}
	var slimmed ingest.Object
	if !gone {
		slimmed = s.r.slim(o)
	}
	s.f.mu.Lock()
	s.f.put(ref{s.r.kind, name}, slimmed)
	s.f.mu.Unlock()
	s.f.notify()
	return nil
}

func (s *store) Replace(list []any, _ string) error {
	now := make(map[ingest.Name]ingest.Object, len(list))
	for i, o := range list {
		name, err := nameOf(o)
		if err != nil {
			return err
		}
		if slimmed := s.r.slim(o); slimmed != nil {
			now[name] = slimmed
		}
		list[i] = nil // large: let it go early
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	for r := range s.f.objects {
		if _, ok := now[r.name]; r.kind == s.r.kind && !ok {
			s.f.put(r, nil)
		}
	}
	for name, o := range now {
		s.f.put(ref{s.r.kind, name}, o)
	}
	s.f.list(s.r.plural)
	s.f.notify()
	return nil
}

// list notes that a kind has been listed. The caller holds mu.
func (f *feed) list(plural string) {
	if f.listed[plural] || f.over != nil {
		return
	}
	f.listed[plural] = true
	if len(f.listed) == len(f.resources) {
		close(f.synced)
	}
}

func nameOf(o any) (ingest.Name, error) {
	m, err := meta.Accessor(o)
	if err != nil {
		return ingest.Name{}, err
	}
	return ingest.Name{Namespace: m.GetNamespace(), Name: m.GetName()}, nil
}
