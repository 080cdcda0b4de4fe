package fleet

import (
	"encoding/json"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

// kind is a kind of object that is served. Its versions differ in nothing but
// their names.
type kind struct {
	schema.GroupResource
	name     string
	versions []string // the first is that of the stored objects
	// For protobuf; nil for custom resources, of which a real server has only JSON.
	list  func() client.ObjectList
	empty func() client.Object
}

// kinds is everything that the reader of a remote cluster reads.
func kinds() []*kind {
	builtIn := func(group, plural, name string, list func() client.ObjectList, empty func() client.Object) *kind {
		return &kind{schema.GroupResource{Group: group, Resource: plural}, name, []string{"v1"}, list, empty}
	}
	custom := func(group, plural, name string) *kind {
		return &kind{GroupResource: schema.GroupResource{Group: group, Resource: plural}, name: name, versions: []string{"v1beta1", "v1alpha1"}}
	}
	return []*kind{
		builtIn("", "services", "Service", func() client.ObjectList { return &corev1.ServiceList{} }, func() client.Object { return &corev1.Service{} }),
		builtIn("", "pods", "Pod", func() client.ObjectList { return &corev1.PodList{} }, func() client.Object { return &corev1.Pod{} }),
		builtIn("", "nodes", "Node", func() client.ObjectList { return &corev1.NodeList{} }, func() client.Object { return &corev1.Node{} }),
		builtIn("", "namespaces", "Namespace", func() client.ObjectList { return &corev1.NamespaceList{} }, func() client.Object { return &corev1.Namespace{} }),
		builtIn(discoveryv1.GroupName, "endpointslices", "EndpointSlice", func() client.ObjectList { return &discoveryv1.EndpointSliceList{} },
			func() client.Object { return &discoveryv1.EndpointSlice{} }),
		custom(mcsv1beta1.GroupName, "serviceexports", "ServiceExport"),
		custom("about.k8s.io", "clusterproperties", "ClusterProperty"),
	}
}

// in returns obj, which is stored, as version of k has it.
func (k *kind) in(obj client.Object, version string) client.Object {
	if version == k.versions[0] {
		return obj
	}
	out := obj.DeepCopyObject().(client.Object)
	out.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{Group: k.Group, Version: version, Kind: k.name})
	return out
}

// format is how a client is answered.
type format struct {
	contentType string
	proto       bool
}

// codec writes answers.
type codec struct {
	object *protobuf.Serializer
	event  *protobuf.RawSerializer
}

func newCodec() (*codec, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return &codec{protobuf.NewSerializer(scheme, scheme), protobuf.NewRawSerializer(scheme, scheme)}, nil
}

// writeList writes objs, which are of k.
func (c *codec) writeList(w io.Writer, f format, k *kind, version string, of metav1.ListMeta, objs []client.Object) error {
	types := metav1.TypeMeta{APIVersion: schema.GroupVersion{Group: k.Group, Version: version}.String(), Kind: k.name + "List"}
	if !f.proto {
		return writeJSONList(w, types, of, k, version, objs)
	}
	list, items := k.list(), make([]runtime.Object, len(objs))
	for i, o := range objs {
		items[i] = o
	}
	if err := meta.SetList(list, items); err != nil {
		return err
	}
	list.GetObjectKind().SetGroupVersionKind(schema.FromAPIVersionAndKind(types.APIVersion, types.Kind))
	list.SetResourceVersion(of.ResourceVersion)
	list.SetContinue(of.Continue)
	return c.object.Encode(list, w)
}

// writeJSONList writes one object after the other, so that a long list needs
// little memory.
func writeJSONList(w io.Writer, types metav1.TypeMeta, of metav1.ListMeta, k *kind, version string, objs []client.Object) error {
	head, err := json.Marshal(of)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, types.Kind, types.APIVersion, head); err != nil {
		return err
	}
	encoder := json.NewEncoder(w)
	for i, o := range objs {
		if i > 0 {
			if _, err := io.WriteString(w, ","); err != nil {
				return err
			}
		}
		if err := encoder.Encode(k.in(o, version)); err != nil {
			return err
		}
	}
	_, err = io.WriteString(w, "]}\n")
	return err
}

// writeEvent writes one event of a watch.
func (c *codec) writeEvent(w io.Writer, f format, kind watch.EventType, obj runtime.Object) error {
	if !f.proto {
		return json.NewEncoder(w).Encode(struct {
			Type   watch.EventType `json:"type"`
			Object runtime.Object  `json:"object"`
		}{kind, obj})
	}
	raw, err := runtime.Encode(c.object, obj)
	if err != nil {
		return err
	}
	event := &metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: raw}}
	return c.event.Encode(event, protobuf.LengthDelimitedFramer.NewFrameWriter(w))
}
