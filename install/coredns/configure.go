package coredns

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install/corefile"
)

const (
	// AnnotationOriginal on the ConfigMap keeps the Corefile as it was.
	AnnotationOriginal = "isthmus.dev/original-corefile"
	// AnnotationCorefile on pods, or on the Deployment's template where CoreDNS does
	// not reload by itself, is a hash of the Corefile that they are to have. The
	// kubelet looks at a changed pod at once, and so at its volumes.
	AnnotationCorefile = "isthmus.dev/corefile"
	// RoleName names the ClusterRole, and its binding, by which CoreDNS reads ServiceImports.
	RoleName = "isthmus-coredns"

	fieldOwner = "isthmus"
)

// Configure lets the cluster's CoreDNS serve the clusterset, if it can; the report says
// where it cannot, which is no error. The definition of ServiceImport must be served
// already. It may be called any number of times.
func Configure(ctx context.Context, kube kubernetes.Interface) (Report, error) {
	report, server, err := look(ctx, kube)
	if err != nil || !report.OK() {
		return report, err
	}
	if err := allow(ctx, kube, server); err != nil { // before CoreDNS asks
		return report, err
	}
	changed, err := rewrite(ctx, kube, server.config.Name, want)
	if err != nil || !changed {
		return report, err
	}
	if report, server, err = look(ctx, kube); err != nil || server == nil {
		return report, err
	}
	report.Changed = true
	return report, announce(ctx, kube, server, true)
}

// Restore gives CoreDNS back the Corefile that it had, with what has been changed in it
// since by others, and takes the right to read ServiceImports away. What is not there
// is no error.
func Restore(ctx context.Context, kube kubernetes.Interface) (changed bool, err error) {
	deployment, err := findDeployment(ctx, kube)
	if err != nil {
		return false, err
	}
	if deployment != nil {
		config, err := findConfig(ctx, kube, deployment)
		if err != nil {
			return false, err
		}
		if config != nil {
			if changed, err = rewrite(ctx, kube, config.Name, without); err != nil {
				return changed, err
			}
			if err := announce(ctx, kube, &found{deployment, config}, false); err != nil {
				return changed, err
			}
		}
	}
	rbac := kube.RbacV1()
	for _, remove := range []func(context.Context, string, metav1.DeleteOptions) error{rbac.ClusterRoleBindings().Delete, rbac.ClusterRoles().Delete} {
		if err := remove(ctx, RoleName, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return changed, fmt.Errorf("delete ClusterRole %s: %w", RoleName, err)
		}
	}
	return changed, nil
}

// allow lets the account of CoreDNS list and watch ServiceImports: by a role of our own, so
// that nobody who brings system:coredns up to date takes it away, and uninstalling is exact.
func allow(ctx context.Context, kube kubernetes.Interface, server *found) error {
	account := server.deployment.Spec.Template.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	labels := map[string]string{api.LabelManagedBy: api.ManagedBy, "app.kubernetes.io/part-of": "isthmus"}
	options := metav1.ApplyOptions{FieldManager: fieldOwner, Force: true}
	role := rbacv1ac.ClusterRole(RoleName).WithLabels(labels).WithRules(rbacv1ac.PolicyRule().
		WithAPIGroups("multicluster.x-k8s.io").WithResources("serviceimports").WithVerbs("list", "watch"))
	if _, err := kube.RbacV1().ClusterRoles().Apply(ctx, role, options); err != nil {
		return fmt.Errorf("let CoreDNS read ServiceImports: %w", err)
	}
	binding := rbacv1ac.ClusterRoleBinding(RoleName).WithLabels(labels).
		WithRoleRef(rbacv1ac.RoleRef().WithAPIGroup("rbac.authorization.k8s.io").WithKind("ClusterRole").WithName(RoleName)).
		WithSubjects(rbacv1ac.Subject().WithKind("ServiceAccount").WithName(account).WithNamespace(Namespace))
	if _, err := kube.RbacV1().ClusterRoleBindings().Apply(ctx, binding, options); err != nil {
		return fmt.Errorf("let CoreDNS read ServiceImports: %w", err)
	}
	return nil
}

// rewrite changes the ConfigMap as f says, again when somebody else was quicker.
func rewrite(ctx context.Context, kube kubernetes.Interface, name string, f func(*corev1.ConfigMap) error) (changed bool, err error) {
	maps := kube.CoreV1().ConfigMaps(Namespace)
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		m, err := maps.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		before := m.DeepCopy()
		if err := f(m); err != nil {
			return err
		}
		if changed = !same(before, m); !changed {
			return nil
		}
		_, err = maps.Update(ctx, m, metav1.UpdateOptions{FieldManager: fieldOwner})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("change the Corefile in ConfigMap %s/%s: %w", Namespace, name, err)
	}
	return changed, nil
}

func same(a, b *corev1.ConfigMap) bool {
	return a.Data[corefileKey] == b.Data[corefileKey] && maps.Equal(a.Annotations, b.Annotations)
}

// want lets the Corefile in m serve the clusterset and keeps the original: that of the first
// time, with what others have changed since.
func want(m *corev1.ConfigMap) error {
	original := m.Data[corefileKey]
	if kept, ok := m.Annotations[AnnotationOriginal]; ok {
		if without, err := corefile.Restore(original, kept, api.ZoneClusterSet); err == nil {
			original = without
		}
	}
	edited, err := corefile.Edit(original, api.ZoneClusterSet)
	if err != nil {
		return err
	}
	if edited == original { // somebody else has done all of it
		delete(m.Annotations, AnnotationOriginal)
		return nil
	}
	if m.Annotations == nil {
		m.Annotations = map[string]string{}
	}
	m.Annotations[AnnotationOriginal] = original
	m.Data[corefileKey] = edited
	return nil
}

// without undoes want.
func without(m *corev1.ConfigMap) error {
	kept, ok := m.Annotations[AnnotationOriginal]
	if !ok {
		return nil
	}
	restored, err := corefile.Restore(m.Data[corefileKey], kept, api.ZoneClusterSet)
	if err != nil {
		return fmt.Errorf("take the clusterset out: %w: do it by hand and remove the annotation %s", err, AnnotationOriginal)
	}
	delete(m.Annotations, AnnotationOriginal)
	m.Data[corefileKey] = restored
	return nil
}

// announce makes CoreDNS take up its Corefile soon: the pods' kubelets by an annotation where
// CoreDNS reloads by itself, else by a rollout. Without mark, the annotations are taken away.
func announce(ctx context.Context, kube kubernetes.Interface, server *found, mark bool) error {
	var value any
	if mark {
		sum := sha256.Sum256([]byte(server.config.Data[corefileKey]))
		value = hex.EncodeToString(sum[:5])
	}
	annotation := map[string]any{"metadata": map[string]any{"annotations": map[string]any{AnnotationCorefile: value}}}
	_, rolled := server.deployment.Spec.Template.Annotations[AnnotationCorefile]
	if rolled || mark && !corefile.Reloads(server.config.Data[corefileKey]) {
		return patchDeployment(ctx, kube, server.deployment.Name, annotation)
	}
	return patchPods(ctx, kube, server, annotation)
}

func patchDeployment(ctx context.Context, kube kubernetes.Interface, name string, annotation map[string]any) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": annotation}})
	if err != nil {
		return err
	}
	if _, err := kube.AppsV1().Deployments(Namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldOwner}); err != nil {
		return fmt.Errorf("restart CoreDNS: %w", err)
	}
	return nil
}

func patchPods(ctx context.Context, kube kubernetes.Interface, server *found, annotation map[string]any) error {
	patch, err := json.Marshal(annotation)
	if err != nil {
		return err
	}
	pods, err := kube.CoreV1().Pods(Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(server.deployment.Spec.Selector)})
	if err != nil {
		return fmt.Errorf("look for the pods of CoreDNS: %w", err)
	}
	for _, pod := range pods.Items {
		_, err := kube.CoreV1().Pods(Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldOwner})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("tell pod %s of its new Corefile: %w", pod.Name, err)
		}
	}
	return nil
}
