package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

// isthmus runs one command line in this process and returns what it printed.
func isthmus(t *testing.T, kubeconfig string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	code = run(ctx, append(args, "--kubeconfig", kubeconfig), Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
	return code, out.String(), errs.String()
}

// On a real API server: each command does it once, says so, and may be run again.
func TestExportAndUnexport(t *testing.T) {
	env := testenv.Start(t)
	kubeconfig := writeKubeconfig(t, env)
	ns := env.Namespace(t)
	service := ns + "/checkout"
	steps := []struct {
		before func()
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{args: []string{"export", service}, code: exitFailed, stderr: "has no such Service"},
		{before: func() { createService(t, env, ns, "checkout") }, args: []string{"export", service}, code: exitFailed, stderr: "next: isthmus install"},
		{before: func() { env.InstallMCS(t) }, args: []string{"export", service}, stdout: "exported"},
		{args: []string{"export", service}, stdout: "exported already"},
		{args: []string{"export", service, "--wait", "--timeout", "500ms"}, code: exitFailed, stderr: "the control plane has not taken it up yet"},
		{args: []string{"unexport", service, "--wait"}, stdout: "no longer exported"},
		{args: []string{"unexport", service}, stdout: "was not exported"},
		{args: []string{"status"}, code: exitVerdict, stdout: "the mesh is not installed"},
		{args: []string{"precheck", "test"}, code: exitVerdict, stdout: "none of 0 is ready"},
	}
	for _, s := range steps {
		if s.before != nil {
			s.before()
		}
		if s.args[0] == "precheck" {
			s.args[1] = currentContext(t, kubeconfig)
		}
		code, stdout, stderr := isthmus(t, kubeconfig, s.args...)
		if code != s.code || !strings.Contains(stdout, s.stdout) || !strings.Contains(stderr, s.stderr) {
			t.Errorf("isthmus %s: code %d\n%s%s", strings.Join(s.args, " "), code, stdout, stderr)
		}
	}
	_, stdout, _ := isthmus(t, kubeconfig, "export", service, "-o", "json")
	var report struct{ Services []exportReport }
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatal(err)
	}
	want := "checkout." + ns + ".svc.clusterset.local"
	if len(report.Services) != 1 || report.Services[0].Hostname != want || !report.Services[0].Changed {
		t.Errorf("report %+v", report)
	}
}

func writeKubeconfig(t *testing.T, env *testenv.Env) string {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, env.Kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

func createService(t *testing.T, env *testenv.Env, ns, name string) {
	t.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	if _, err := env.Client(t).CoreV1().Services(ns).Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func currentContext(t *testing.T, kubeconfig string) string {
	t.Helper()
	e := &env{kubeconfig: kubeconfig}
	names, err := e.contexts(nil)
	if err != nil {
		t.Fatal(err)
	}
	return names[0]
}
