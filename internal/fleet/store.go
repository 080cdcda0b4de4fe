package fleet

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// history is how many changes of a kind a watch may be behind.
const history = 4096

// store holds the objects of one cluster. Nobody changes an object in it.
type store struct {
	kinds map[schema.GroupResource]*shelf
	names map[string]*shelf // by kind's name

	mu  sync.Mutex
	now uint64 // the newest resource version
}

// shelf holds the objects of one kind; its fields are under store.mu.
type shelf struct {
	*kind
	objects map[types.NamespacedName]client.Object
	log     []change // the newest last
	oldest  uint64   // a watch may begin at this version and after
	changed chan struct{}
}

// change is one step of an object; before is nil for a new one, after for one
// that is gone.
type change struct {
	version       uint64
	before, after client.Object
}

func newStore() *store {
	s := &store{kinds: map[schema.GroupResource]*shelf{}, names: map[string]*shelf{}, now: 1}
	for _, k := range kinds() {
		shelf := &shelf{kind: k, objects: map[types.NamespacedName]client.Object{}, oldest: 1, changed: make(chan struct{})}
		s.kinds[k.GroupResource], s.names[k.name] = shelf, shelf
	}
	return s
}

// put stores obj, which has its kind set and belongs to the store from now on,
// and returns its resource version.
func (s *store) put(obj client.Object) (uint64, error) {
	gvk := obj.GetObjectKind().GroupVersionKind()
	shelf := s.names[gvk.Kind]
	if shelf == nil || gvk.Group != shelf.Group || gvk.Version != shelf.versions[0] {
		return 0, fmt.Errorf("fleet: %s is not served", gvk)
	}
	key := client.ObjectKeyFromObject(obj)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now++
	before := shelf.objects[key]
	obj.SetResourceVersion(strconv.FormatUint(s.now, 10))
	switch {
	case before != nil:
		obj.SetUID(before.GetUID())
		obj.SetCreationTimestamp(before.GetCreationTimestamp())
	default:
		if obj.GetUID() == "" {
			obj.SetUID(types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012x", s.now)))
		}
		if created := obj.GetCreationTimestamp(); created.IsZero() {
			obj.SetCreationTimestamp(metav1.NewTime(time.Now().Truncate(time.Second)))
		}
	}
	shelf.objects[key] = obj
	shelf.note(change{s.now, before, obj})
	return s.now, nil
}

// remove deletes an object; it reports whether there was one.
func (s *store) remove(kind string, key types.NamespacedName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	shelf := s.names[kind]
	if shelf == nil || shelf.objects[key] == nil {
		return false
	}
	before := shelf.objects[key]
	delete(shelf.objects, key)
	s.now++
	shelf.note(change{s.now, before, nil})
	return true
}

// note logs c and wakes the watches.
func (s *shelf) note(c change) {
	if len(s.log) >= history {
		half := len(s.log) / 2
		s.oldest = s.log[half-1].version
		s.log = append([]change(nil), s.log[half:]...)
	}
	s.log = append(s.log, c)
	close(s.changed)
	s.changed = make(chan struct{})
}

// list returns what sel selects, in key order, and the newest version.
func (s *store) list(shelf *shelf, sel selector) ([]client.Object, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]client.Object, 0, len(shelf.objects))
	for _, o := range shelf.objects {
		if sel.matches(o) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b client.Object) int { return strings.Compare(keyOf(a), keyOf(b)) })
	return out, s.now
}

func keyOf(o client.Object) string { return o.GetNamespace() + "/" + o.GetName() }

// since returns the changes after version, and what is closed by the next one.
// It is false where they are not known any more.
func (s *store) since(shelf *shelf, version uint64) (changes []change, now uint64, more <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version < shelf.oldest || version > s.now {
		return nil, s.now, nil, false
	}
	i, _ := slices.BinarySearchFunc(shelf.log, version+1, func(c change, v uint64) int {
		if c.version < v {
			return -1
		}
		return 1
	})
	return shelf.log[i:len(shelf.log):len(shelf.log)], s.now, shelf.changed, true
}
