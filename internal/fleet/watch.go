package fleet

import (
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// bookmarkEvery is how often a quiet watch is told how far it is.
const bookmarkEvery = 50 * time.Second

// watcher is one open watch.
type watcher struct {
	c       *Cluster
	a       *ask
	w       http.ResponseWriter
	at      uint64 // everything up to here was sent
	marks   bool   // bookmarks are wanted
	initial bool   // the stream begins with all there is
}

// serveWatch sends changes until the client goes, its timeout has passed, or it
// is too far behind.
func (c *Cluster) serveWatch(w http.ResponseWriter, r *http.Request, a *ask) {
	query := r.URL.Query()
	v := &watcher{c: c, a: a, w: w, marks: query.Get("allowWatchBookmarks") == "true", initial: query.Get("sendInitialEvents") == "true"}
	from := query.Get("resourceVersion")
	v.at, _ = strconv.ParseUint(from, 10, 64)
	v.initial = v.initial || from == "" || from == "0"
	contentType := a.format.contentType
	if a.format.proto {
		contentType += ";stream=watch"
	}
	w.Header().Set("Content-Type", contentType)
	var timeout <-chan time.Time
	if seconds, err := strconv.Atoi(query.Get("timeoutSeconds")); err == nil && seconds > 0 {
		timer := time.NewTimer(time.Duration(seconds) * time.Second)
		defer timer.Stop()
		timeout = timer.C
	}
	if v.initial && v.begin(query.Get("sendInitialEvents") == "true") != nil {
		return
	}
	v.run(r.Context().Done(), timeout)
}

// begin sends all objects and, where it was asked for, that these were all.
func (v *watcher) begin(mark bool) error {
	found, version := v.c.store.list(v.a.shelf, v.a.sel)
	for _, o := range found {
		if err := v.send(watch.Added, o); err != nil {
			return err
		}
	}
	v.at = version
	if mark {
		return v.bookmark(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return v.flush()
}

func (v *watcher) run(gone <-chan struct{}, timeout <-chan time.Time) {
	tick := time.NewTicker(bookmarkEvery)
	defer tick.Stop()
	for {
		changes, now, more, ok := v.c.store.since(v.a.shelf, v.at)
		if !ok {
			status := apierrors.NewResourceExpired("too old resource version").Status()
			status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
			_ = v.c.codec.writeEvent(v.w, v.a.format, watch.Error, &status)
			return
		}
		for _, ch := range changes {
			if v.tell(ch) != nil {
				return
			}
		}
		if v.at = now; v.flush() != nil {
			return
		}
		select {
		case <-gone:
			return
		case <-timeout:
			return
		case <-more:
		case <-tick.C:
			if v.marks && v.bookmark(nil) != nil {
				return
			}
		}
	}
}

// tell sends a change as far as it concerns what is selected.
func (v *watcher) tell(ch change) error {
	before, after := ch.before != nil && v.a.sel.matches(ch.before), ch.after != nil && v.a.sel.matches(ch.after)
	switch {
	case after && before:
		return v.send(watch.Modified, ch.after)
	case after:
		return v.send(watch.Added, ch.after)
	case before:
		last := ch.before.DeepCopyObject().(client.Object)
		last.SetResourceVersion(strconv.FormatUint(ch.version, 10))
		return v.send(watch.Deleted, last)
	}
	return nil
}

func (v *watcher) send(what watch.EventType, o client.Object) error {
	return v.c.codec.writeEvent(v.w, v.a.format, what, v.a.shelf.in(o, v.a.version))
}

// bookmark says how far the client is.
func (v *watcher) bookmark(annotations map[string]string) error {
	k := v.a.shelf.kind
	gvk := schema.GroupVersionKind{Group: k.Group, Version: v.a.version, Kind: k.name}
	var o client.Object = &unstructured.Unstructured{}
	if k.list != nil {
		o = k.empty()
	}
	o.GetObjectKind().SetGroupVersionKind(gvk)
	o.SetResourceVersion(strconv.FormatUint(v.at, 10))
	o.SetAnnotations(annotations)
	if err := v.c.codec.writeEvent(v.w, v.a.format, watch.Bookmark, runtime.Object(o)); err != nil {
		return err
	}
	return v.flush()
}

func (v *watcher) flush() error { return http.NewResponseController(v.w).Flush() }
