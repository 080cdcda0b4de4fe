package watch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

// Few objects may be large ones: what another cluster puts into its exports
// counts by its size, and what it takes back does not. (faults 10, 35)
func TestBudgetOfBytes(t *testing.T) {
	scheme, err := newScheme()
	must(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	f := newFeed(&rest.Config{}, nil, scheme, remoteResources("isthmus-system"), 1000, func() {})
	f.maxBytes, f.cancel = 10<<20, cancel
	exports := &store{f, f.resources[len(f.resources)-1], ctx}
	export := func(name string) *mcsv1beta1.ServiceExport {
		return &mcsv1beta1.ServiceExport{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
			Spec:       mcsv1beta1.ServiceExportSpec{ExportedAnnotations: map[string]string{"a": strings.Repeat("x", 1<<20)}},
		}
	}
	for range 50 { // never more than one at a time
		must(t, exports.Add(export("again")))
		must(t, exports.Delete(export("again")))
	}
	if ctx.Err() != nil || f.bytes != 0 {
		t.Fatalf("%d bytes held of nothing: %v", f.bytes, context.Cause(ctx))
	}
	for i := range 20 {
		if exports.Add(export(fmt.Sprint("e", i))) != nil {
			break
		}
	}
	if !errors.Is(context.Cause(ctx), errBudget) {
		t.Errorf("%d bytes are held", f.bytes)
	}
}
