package registry

import (
	"context"
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Behind returns an error, 410 Gone, where the server that list asks is behind
// version: its data was restored from a backup. A watch from there would be
// taken, and tell nothing until the server has caught up; the error makes a
// reflector list anew. Where that cannot be told, it returns nil.
func Behind(ctx context.Context, version string, list func(context.Context, metav1.ListOptions) (runtime.Object, error)) error {
	want, err := strconv.ParseUint(version, 10, 64)
	if err != nil || want == 0 {
		return nil
	}
	found, err := list(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil // the watch will say so
	}
	of, err := meta.ListAccessor(found)
	if err != nil {
		return nil
	}
	if now, err := strconv.ParseUint(of.GetResourceVersion(), 10, 64); err == nil && now < want {
		return apierrors.NewResourceExpired(fmt.Sprintf("the server is at version %d, behind %d: its data was restored", now, want))
	}
	return nil
}
