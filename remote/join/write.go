package join

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
)

// fieldOwner owns what Link writes, so that it may be changed by running it again.
const fieldOwner = "isthmus-link"

// What Link writes.
var (
	accounts            = corev1.SchemeGroupVersion.WithResource("serviceaccounts")
	secrets             = corev1.SchemeGroupVersion.WithResource("secrets")
	roles               = rbacv1.SchemeGroupVersion.WithResource("roles")
	roleBindings        = rbacv1.SchemeGroupVersion.WithResource("rolebindings")
	clusterRoles        = rbacv1.SchemeGroupVersion.WithResource("clusterroles")
	clusterRoleBindings = rbacv1.SchemeGroupVersion.WithResource("clusterrolebindings")
	clusterLinks        = v1alpha1.GroupVersion.WithResource("clusterlinks")
)

// writer writes objects of any kind to one cluster.
type writer struct {
	side   Side
	client *dynamic.DynamicClient
}

func newWriter(side Side) (*writer, error) {
	client, err := dynamic.NewForConfig(side.Config)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", side.Context, err)
	}
	return &writer{side, client}, nil
}

// apply writes obj, which has its kind set, by server-side apply.
func (w *writer) apply(ctx context.Context, resource schema.GroupVersionResource, obj runtime.Object) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return err
	}
	delete(content, "status")
	u := &unstructured.Unstructured{Object: content}
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	_, err = w.client.Resource(resource).Namespace(u.GetNamespace()).Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: fieldOwner, Force: true})
	if err != nil {
		return fmt.Errorf("write %s %s in %s: %w", u.GetKind(), u.GetName(), w.side.Context, explain(err))
	}
	return nil
}

// explain adds what to do next.
func explain(err error) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%w (run isthmus install for this cluster first)", err)
	}
	return err
}

// remove deletes an object; one that is not there, or whose kind is not, is
// removed already.
func (w *writer) remove(ctx context.Context, resource schema.GroupVersionResource, namespace, name string) error {
	err := w.client.Resource(resource).Namespace(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s %s in %s: %w", resource.Resource, name, w.side.Context, err)
	}
	return nil
}
