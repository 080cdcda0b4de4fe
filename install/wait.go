package install

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
)

// waitEstablished waits until every definition is served.
func waitEstablished(ctx context.Context, client dynamic.Interface, crds []*unstructured.Unstructured) error {
	for _, crd := range crds {
		err := poll(ctx, client, crd, func(found *unstructured.Unstructured) string {
			if condition(found, "Established") {
				return ""
			}
			return "not established yet"
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// poll reads obj until missing returns "". When the context ends, the error
// says what was missing last.
func poll(ctx context.Context, client dynamic.Interface, obj *unstructured.Unstructured, missing func(*unstructured.Unstructured) string) error {
	last := "not read yet"
	err := wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		found, err := resource(client, obj).Get(ctx, obj.GetName(), metav1.GetOptions{})
		if err != nil {
			if ctx.Err() == nil {
				last = err.Error()
			}
			return false, nil
		}
		last = missing(found)
		return last == "", nil
	})
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("wait for %s: %s", title(obj), last), context.Cause(ctx))
}

// condition reports whether the status condition of that type is True.
func condition(obj *unstructured.Unstructured, kind string) bool {
	conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == kind {
			return m["status"] == "True"
		}
	}
	return false
}
