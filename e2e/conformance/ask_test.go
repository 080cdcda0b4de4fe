//go:build conformance

package conformance

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

// imported waits until the import of c is as check wants it, and returns it.
func (f *fixture) imported(c *cluster, check func(*mcsv1beta1.ServiceImport) error) *mcsv1beta1.ServiceImport {
	f.Helper()
	var out mcsv1beta1.ServiceImport
	f.eventually(c.name+": the import", func(ctx context.Context) error {
		out = mcsv1beta1.ServiceImport{}
		if err := c.Get(ctx, f.key(helloName), &out); err != nil || check == nil {
			return err
		}
		return check(&out)
	})
	return &out
}

func (f *fixture) notImported(c *cluster) {
	f.Helper()
	f.eventually(c.name+": no import", func(ctx context.Context) error {
		err := c.Get(ctx, f.key(helloName), &mcsv1beta1.ServiceImport{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there (%v)", err)
	})
}

// condition waits until the export of c has a condition, and returns it. Every
// word must be part of its reason or message.
func (f *fixture) condition(c *cluster, kind mcsv1beta1.ServiceExportConditionType, status metav1.ConditionStatus, words ...string) metav1.Condition {
	f.Helper()
	var out metav1.Condition
	f.eventually(fmt.Sprintf("%s: %s=%s", c.name, kind, status), func(ctx context.Context) error {
		var e mcsv1beta1.ServiceExport
		if err := c.Get(ctx, f.key(helloName), &e); err != nil {
			return err
		}
		found := meta.FindStatusCondition(e.Status.Conditions, string(kind))
		if found == nil || found.Status != status {
			return fmt.Errorf("it is %+v", found)
		}
		for _, w := range words {
			if !strings.Contains(found.Reason+" "+found.Message, w) {
				return fmt.Errorf("nothing about %q: %s: %s", w, found.Reason, found.Message)
			}
		}
		out = *found
		return nil
	})
	return out
}

// conflict waits for Conflict=True with a reason on both exports.
func (f *fixture) conflict(reason mcsv1beta1.ServiceExportConditionReason) {
	f.Helper()
	for _, c := range f.clusters {
		f.condition(c, mcsv1beta1.ServiceExportConditionConflict, metav1.ConditionTrue, string(reason), f.clusters[0].name)
	}
}

// slices lists the imported slices of c.
func (f *fixture) slices(ctx context.Context, c *cluster) ([]discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	err := c.List(ctx, &list, client.InNamespace(f.namespace), client.HasLabels{mcsv1beta1.LabelServiceName, mcsv1beta1.LabelSourceCluster})
	return list.Items, err
}

// podAddresses waits until n pods behind the service of c are ready.
func (f *fixture) podAddresses(c *cluster, n int) []string {
	f.Helper()
	var out []string
	f.before(starting, fmt.Sprintf("%s: %d ready pods", c.name, n), func(ctx context.Context) error {
		list, err := f.serviceSlices(ctx, c)
		if out = readyAddresses(list); err != nil || len(out) != n {
			return fmt.Errorf("%d are (%v)", len(out), err)
		}
		return nil
	})
	slices.Sort(out)
	return out
}

// ask runs a shell line in the pod that asks, and returns what it printed.
func (f *fixture) ask(ctx context.Context, c *cluster, line string) string {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req := c.kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(f.namespace).Name(f.from).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: callerBox, Command: []string{"sh", "-c", line}, Stdout: true, Stderr: true, TTY: true}, scheme.ParameterCodec)
	exec, err := remotecommand.NewSPDYExecutor(c.config, "POST", req.URL())
	if err != nil {
		return err.Error()
	}
	var out bytes.Buffer
	if err := exec.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Tty: true}); err != nil {
		return out.String() + "\n" + err.Error()
	}
	return out.String()
}

// answers waits until a line prints what check wants, in both clusters.
func (f *fixture) answers(line string, check func(output string) error) {
	f.Helper()
	for _, c := range f.clusters {
		f.answersIn(c, line, check)
	}
}

func (f *fixture) answersIn(c *cluster, line string, check func(output string) error) {
	f.Helper()
	f.eventually(c.name+": "+line, func(ctx context.Context) error {
		output := f.ask(ctx, c, line)
		if err := check(output); err != nil {
			return fmt.Errorf("%w in %q", err, output)
		}
		return nil
	})
}

func contains(want string) func(string) error {
	return func(output string) error {
		if strings.Contains(output, want) {
			return nil
		}
		return fmt.Errorf("no %q", want)
	}
}

// name is the service's name in the clusterset, with labels before it.
func (f *fixture) name(before ...string) string {
	return strings.Join(append(before, helloName, f.namespace, "svc.clusterset.local"), ".")
}
