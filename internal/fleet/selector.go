package fleet

import (
	"net/url"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// selector says what a request is about.
type selector struct {
	namespace, name string // empty: all
	fields          fields.Selector
	labels          labels.Selector
}

func parseSelector(namespace, name string, query url.Values) (selector, error) {
	out := selector{namespace: namespace, name: name}
	var err error
	if out.fields, err = fields.ParseSelector(query.Get("fieldSelector")); err != nil {
		return out, err
	}
	out.labels, err = labels.Parse(query.Get("labelSelector"))
	return out, err
}

func (s selector) matches(o client.Object) bool {
	if o == nil || s.namespace != "" && o.GetNamespace() != s.namespace || s.name != "" && o.GetName() != s.name {
		return false
	}
	return (s.labels.Empty() || s.labels.Matches(labels.Set(o.GetLabels()))) && (s.fields.Empty() || s.fields.Matches(fieldsOf(o)))
}

// fieldsOf are the fields that can be selected by.
func fieldsOf(o client.Object) fields.Set {
	out := fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
	if p, ok := o.(*corev1.Pod); ok {
		out["status.phase"], out["spec.nodeName"] = string(p.Status.Phase), p.Spec.NodeName
	}
	return out
}
