package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ask is what a request asks for.
type ask struct {
	shelf   *shelf
	version string
	sel     selector
	format  format
	one     bool // an object and no list
}

// ServeHTTP answers like an API server with one account, which may list, watch
// and get.
func (c *Cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("Authorization") != "Bearer "+Token:
		refuse(w, apierrors.NewUnauthorized("the fleet's token is needed"))
	case r.Method != http.MethodGet:
		refuse(w, apierrors.NewForbidden(schema.GroupResource{}, r.URL.Path, errors.New("a fleet only reads")))
	case r.URL.Path == "/version":
		answer(w, map[string]string{"major": "1", "minor": "36", "gitVersion": "v1.36.0-fleet"})
	case r.URL.Path == "/livez", r.URL.Path == "/readyz", r.URL.Path == "/healthz":
		_, _ = w.Write([]byte("ok"))
	default:
		c.serveObjects(w, r)
	}
}

func (c *Cluster) serveObjects(w http.ResponseWriter, r *http.Request) {
	a, err := c.parse(r)
	switch {
	case err != nil:
		refuse(w, err)
	case a.one:
		c.serveOne(w, a)
	case r.URL.Query().Get("watch") == "true" || r.URL.Query().Get("watch") == "1":
		c.serveWatch(w, r, a)
	default:
		c.serveList(w, r, a)
	}
}

// parse reads /api/v1[/namespaces/NS]/PLURAL[/NAME] and the same under /apis/GROUP.
func (c *Cluster) parse(r *http.Request) (*ask, error) {
	missing := apierrors.NewGenericServerResponse(http.StatusNotFound, "get", schema.GroupResource{}, "", "page not found", 0, false)
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	var group string
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		parts = parts[1:]
	case len(parts) >= 4 && parts[0] == "apis":
		group, parts = parts[1], parts[2:]
	default:
		return nil, missing
	}
	version, parts := parts[0], parts[1:]
	var namespace, name string
	if parts[0] == "namespaces" && len(parts) > 2 {
		namespace, parts = parts[1], parts[2:]
	}
	if len(parts) > 1 {
		name = parts[1]
	}
	shelf := c.store.kinds[schema.GroupResource{Group: group, Resource: parts[0]}]
	if shelf == nil || !slices.Contains(shelf.versions, version) || len(parts) > 2 {
		return nil, missing
	}
	sel, err := parseSelector(namespace, name, r.URL.Query())
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return &ask{shelf, version, sel, negotiate(r, shelf.kind), name != ""}, nil
}

// negotiate takes protobuf where the client puts it first and the kind has it.
func negotiate(r *http.Request, k *kind) format {
	first, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
	if k.list != nil && strings.HasPrefix(strings.TrimSpace(first), "application/vnd.kubernetes.protobuf") {
		return format{"application/vnd.kubernetes.protobuf", true}
	}
	return format{contentType: "application/json"}
}

func (c *Cluster) serveOne(w http.ResponseWriter, a *ask) {
	found, _ := c.store.list(a.shelf, a.sel)
	if len(found) == 0 {
		refuse(w, apierrors.NewNotFound(a.shelf.GroupResource, a.sel.name))
		return
	}
	w.Header().Set("Content-Type", a.format.contentType)
	if a.format.proto {
		_ = c.codec.object.Encode(found[0], w)
		return
	}
	_ = json.NewEncoder(w).Encode(a.shelf.in(found[0], a.version))
}

// serveList answers in pages where the client asks; a continue token is the
// last key of the page before.
func (c *Cluster) serveList(w http.ResponseWriter, r *http.Request, a *ask) {
	found, version := c.store.list(a.shelf, a.sel)
	of := metav1.ListMeta{ResourceVersion: strconv.FormatUint(version, 10)}
	if after := r.URL.Query().Get("continue"); after != "" {
		found = slices.DeleteFunc(found, func(o client.Object) bool { return keyOf(o) <= after })
	}
	if limit, err := strconv.Atoi(r.URL.Query().Get("limit")); err == nil && limit > 0 && limit < len(found) {
		of.Continue = keyOf(found[limit-1])
		found = found[:limit]
	}
	var body bytes.Buffer
	if err := c.codec.writeList(&body, a.format, a.shelf.kind, a.version, of, found); err != nil {
		refuse(w, apierrors.NewInternalError(err))
		return
	}
	w.Header().Set("Content-Type", a.format.contentType)
	_, _ = w.Write(body.Bytes())
}

// refuse answers with err as a Status.
func refuse(w http.ResponseWriter, err error) {
	status := metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Message: err.Error(), Code: http.StatusInternalServerError}
	if known, ok := errors.AsType[*apierrors.StatusError](err); ok {
		status = known.Status()
		status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status)
}

func answer(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(what)
}
