package webhook

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
)

// Namespaces knows the labels of a cluster's namespaces, which no admission
// request tells.
type Namespaces struct {
	factory informers.SharedInformerFactory
	lister  corev1listers.NamespaceLister
}

// NewNamespaces returns one that knows nothing until it runs.
func NewNamespaces(client kubernetes.Interface) *Namespaces {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(onlyLabels))
	return &Namespaces{factory: factory, lister: factory.Core().V1().Namespaces().Lister()}
}

// onlyLabels drops what nobody asks for.
func onlyLabels(obj any) (any, error) {
	ns, ok := obj.(*corev1.Namespace)
	if !ok {
		return obj, nil
	}
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns.Name, UID: ns.UID, ResourceVersion: ns.ResourceVersion, Labels: ns.Labels}}, nil
}

// Run watches until ctx ends.
func (n *Namespaces) Run(ctx context.Context) error {
	n.factory.Start(ctx.Done())
	<-ctx.Done()
	n.factory.Shutdown()
	return nil
}

// Labels returns the labels of a namespace, which are not to be changed; nil
// while it is not known.
func (n *Namespaces) Labels(name string) map[string]string {
	ns, err := n.lister.Get(name)
	if err != nil {
		return nil
	}
	return ns.Labels
}
