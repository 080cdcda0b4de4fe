package sandbox

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"text/template"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/sandbox/plan"
)

//go:embed coredns.yaml
var coreDNSTemplate string

// installAddOns gives a cluster CoreDNS, as every distribution does.
func installAddOns(ctx context.Context, config *rest.Config, c plan.Cluster) error {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	var manifest bytes.Buffer
	if err := template.Must(template.New("coredns").Parse(coreDNSTemplate)).Execute(&manifest, c); err != nil {
		return err
	}
	return applyAll(ctx, client, manifest.Bytes())
}

// applyAll applies the objects of a YAML document under our field owner.
func applyAll(ctx context.Context, client dynamic.Interface, document []byte) error {
	decoder := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(document)))
	for {
		data, err := decoder.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(data, &object.Object); err != nil {
			return err
		}
		if len(object.Object) == 0 {
			continue
		}
		if err := applyPatiently(ctx, client, object); err != nil {
			return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
}

// applyPatiently tries for a while: an API server that says it is ready may not have its
// service range or its namespaces yet, and refuses with many an error.
func applyPatiently(ctx context.Context, client dynamic.Interface, object *unstructured.Unstructured) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		last = apply(ctx, client, object)
		return last == nil, nil
	})
	return cmp.Or(last, err)
}

func apply(ctx context.Context, client dynamic.Interface, object *unstructured.Unstructured) error {
	data, err := object.MarshalJSON()
	if err != nil {
		return err
	}
	// Every kind used here has the plural that can be guessed.
	resource, _ := meta.UnsafeGuessKindToResource(object.GroupVersionKind())
	var target dynamic.ResourceInterface = client.Resource(resource)
	if namespace := object.GetNamespace(); namespace != "" {
		target = client.Resource(resource).Namespace(namespace)
	}
	_, err = target.Patch(ctx, object.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: "isthmus-sandbox", Force: new(true)})
	return err
}
