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

// waitAvailable waits until a Deployment's latest form is rolled out.
func waitAvailable(ctx context.Context, client dynamic.Interface, obj *unstructured.Unstructured) error {
	return poll(ctx, client, obj, func(found *unstructured.Unstructured) string {
		want := number(found, 1, "spec", "replicas")
		switch {
		case number(found, 0, "status", "observedGeneration") < found.GetGeneration():
			return "not observed yet"
		case number(found, 0, "status", "updatedReplicas") < want:
			return fmt.Sprintf("%d of %d replicas updated", number(found, 0, "status", "updatedReplicas"), want)
		case number(found, 0, "status", "availableReplicas") < want:
			return fmt.Sprintf("%d of %d replicas available", number(found, 0, "status", "availableReplicas"), want)
		}
		return ""
	})
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

func number(obj *unstructured.Unstructured, missing int64, path ...string) int64 {
	n, ok, _ := unstructured.NestedInt64(obj.Object, path...)
	if !ok {
		return missing
	}
	return n
}
