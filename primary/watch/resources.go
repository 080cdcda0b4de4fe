package watch

import (
	"context"
	"fmt"
	"net/http"
	"time"

	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/federation/ingest"
	"github.com/isthmus-mesh/isthmus/remote/registry"
)

// listTimeout bounds one list, so that a server that dribbles is given up.
const listTimeout = 60 * time.Second

// resource is a kind of object that is read from a cluster.
type resource struct {
	gv       schema.GroupVersion
	plural   string
	kind     ingest.Kind
	object   runtime.Object // of the type, for the reflector
	list     runtime.Object // an empty list, where the kind may be missing; else nil
	fields   string         // field selector
	in       string         // namespace, or all
	slim     func(any) ingest.Object
	optional bool // a cluster without this kind has none of it
}

// notDone leaves out pods whose addresses are somebody else's by now.
const notDone = "status.phase!=Succeeded,status.phase!=Failed"

// remoteResources is what the reader account may read.
func remoteResources(namespace string) []resource {
	return []resource{
		{gv: corev1.SchemeGroupVersion, plural: "services", kind: ingest.KindService, object: &corev1.Service{}, slim: slim(ingest.SlimService)},
		{gv: discoveryv1.SchemeGroupVersion, plural: "endpointslices", kind: ingest.KindSlice, object: &discoveryv1.EndpointSlice{}, slim: slimRemoteSlice},
		{gv: corev1.SchemeGroupVersion, plural: "pods", kind: ingest.KindPod, object: &corev1.Pod{}, fields: notDone, slim: slimRemotePod},
		{gv: corev1.SchemeGroupVersion, plural: "nodes", kind: ingest.KindNode, object: &corev1.Node{}, slim: slim(ingest.SlimNode)},
		{gv: corev1.SchemeGroupVersion, plural: "namespaces", kind: ingest.KindNamespace, object: &corev1.Namespace{}, fields: "metadata.name=" + namespace, slim: slim(ingest.SlimNamespace)},
		{gv: mcsv1beta1.SchemeGroupVersion, plural: "serviceexports", kind: ingest.KindExport, object: &mcsv1beta1.ServiceExport{}, list: &mcsv1beta1.ServiceExportList{}, optional: true, slim: slim(ingest.SlimExport)},
	}
}

// localResources adds what only the own cluster's proxies need.
func localResources(namespace string) []resource {
	out := remoteResources(namespace)
	out[1].slim = slimSlice
	out[2].slim = slim(ingest.SlimPod)
	out[4].fields = "" // a label shuts pods of any namespace out of the entry gateway
	return append(out,
		resource{gv: securityv1.SchemeGroupVersion, plural: "peerauthentications", kind: ingest.KindPolicy, object: &securityv1.PeerAuthentication{}, list: &securityv1.PeerAuthenticationList{}, optional: true, slim: slim(ingest.SlimPolicy)},
		resource{gv: mcsv1beta1.SchemeGroupVersion, plural: "serviceimports", kind: ingest.KindImport, object: &mcsv1beta1.ServiceImport{}, list: &mcsv1beta1.ServiceImportList{}, optional: true, slim: slim(ingest.SlimImport)},
		resource{gv: v1alpha1.GroupVersion, plural: "clusterlinks", kind: kindLink, object: &v1alpha1.ClusterLink{}, list: &v1alpha1.ClusterLinkList{}, optional: true, in: namespace, slim: slim(slimLink)},
	)
}

// slim adapts a typed function to a reflector's untyped objects.
func slim[K any, S ingest.Object](f func(K) S) func(any) ingest.Object {
	return func(o any) ingest.Object { return f(o.(K)) }
}

func slimSlice(o any) ingest.Object {
	if s := ingest.SlimSlice(o.(*discoveryv1.EndpointSlice)); s != nil {
		return s
	}
	return nil
}

// slimRemoteSlice leaves out what the other cluster imported itself.
func slimRemoteSlice(o any) ingest.Object {
	if s := ingest.SlimSlice(o.(*discoveryv1.EndpointSlice)); s != nil && s.Source == "" {
		return s
	}
	return nil
}

// slimRemotePod leaves out labels: policies of other clusters are not read.
func slimRemotePod(o any) ingest.Object {
	p := ingest.SlimPod(o.(*corev1.Pod))
	p.Labels = nil
	return p
}

// newScheme knows every kind above.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, mcsv1beta1.AddToScheme, securityv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return scheme, nil
}

// source makes list-watchers for one API server.
type source struct {
	config  *rest.Config // host and path; client does the rest
	client  *http.Client
	codecs  serializer.CodecFactory
	clients map[schema.GroupVersion]*rest.RESTClient
}

func newSource(config *rest.Config, client *http.Client, scheme *runtime.Scheme) *source {
	return &source{config: config, client: client, codecs: serializer.NewCodecFactory(scheme), clients: map[schema.GroupVersion]*rest.RESTClient{}}
}

func (s *source) restClient(gv schema.GroupVersion) (*rest.RESTClient, error) {
	if c := s.clients[gv]; c != nil {
		return c, nil
	}
	config := rest.CopyConfig(s.config)
	config.APIPath, config.GroupVersion, config.NegotiatedSerializer, config.QPS = "/apis", &gv, s.codecs.WithoutConversion(), -1
	config.ContentType = runtime.ContentTypeJSON
	if gv.Group == "" {
		config.APIPath = "/api"
	}
	if gv.Group == "" || gv.Group == discoveryv1.GroupName {
		config.ContentType, config.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	}
	c, err := rest.RESTClientForConfigAndClient(config, s.client)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", gv, err)
	}
	s.clients[gv] = c
	return c, nil
}

// listWatch lists and watches r; report is told how each call went.
func (s *source) listWatch(r resource, report func(error)) (cache.ListerWatcher, error) {
	client, err := s.restClient(r.gv)
	if err != nil {
		return nil, err
	}
	base := cache.NewFilteredListWatchFromClient(client, r.plural, r.in, func(o *metav1.ListOptions) { o.FieldSelector = r.fields })
	return plainLists{&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			if err := registry.Behind(ctx, o.ResourceVersion, bounded(base.ListWithContext)); err != nil {
				return nil, err // else it would be asked ten times, 4 s each
			}
			list, err := bounded(base.ListWithContext)(ctx, o)
			if r.optional && apierrors.IsNotFound(err) {
				list, err = r.list.DeepCopyObject(), nil
			}
			report(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			if err := registry.Behind(ctx, o.ResourceVersion, bounded(base.ListWithContext)); err != nil {
				return nil, err
			}
			w, err := base.WatchWithContext(ctx, o)
			if !r.optional || !apierrors.IsNotFound(err) {
				report(err)
			}
			return w, err
		},
	}}, nil
}

// bounded gives a list listTimeout.
func bounded(list cache.ListWithContextFunc) cache.ListWithContextFunc {
	return func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		ctx, cancel := context.WithTimeout(ctx, listTimeout)
		defer cancel()
		return list(ctx, o)
	}
}

// plainLists asks the server for lists and not for one endless stream, whose
// end a bad server could withhold.
type plainLists struct{ *cache.ListWatch }

func (plainLists) IsWatchListSemanticsUnSupported() bool { return true }
