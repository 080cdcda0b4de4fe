//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Job of a pod with a sidecar calls another cluster and ends as it says: the
// sidecar goes after the last request is answered, and holds nothing up.
func TestJobsEnd(t *testing.T) {
	t.Parallel()
	const ns, url = "jobs-end", "http://echo.jobs-end.svc.clusterset.local"
	exportedEcho(t, ns, mesh.West).Reaches(t, url, time.Minute, "west")
	job := func(name, target string) string {
		return fmt.Sprintf(`
apiVersion: batch/v1
kind: Job
metadata: {name: %s}
spec:
  backoffLimit: 0
  template:
    metadata: {labels: {app: %s}}
    spec:
      serviceAccountName: client
      restartPolicy: Never
      containers:
      - {name: app, image: 'isthmus-mesh/isthmus-samples:dev', args: [client, %s, --count, "40", --rate, "20", --timeout, 4s]}
`, name, name, target)
	}
	for name, test := range map[string]struct {
		url  string
		want batchv1.JobConditionType
	}{
		"good": {url, batchv1.JobComplete},
		"bad":  {"http://nowhere.jobs-end.svc.clusterset.local", batchv1.JobFailed},
	} {
		t.Run(name, func(t *testing.T) {
			mesh.East.ApplyYAML(t, ns, job(name, test.url))
			Eventually(t, 90*time.Second, "the Job is "+string(test.want), func(ctx context.Context) error {
				j, err := mesh.East.Kube.BatchV1().Jobs(ns).Get(ctx, name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				for _, c := range j.Status.Conditions {
					if c.Type == test.want && c.Status == corev1.ConditionTrue {
						return nil
					}
				}
				return fmt.Errorf("its conditions are %v", j.Status.Conditions)
			})
			pods, err := mesh.East.Kube.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
			if err != nil || len(pods.Items) != 1 {
				t.Fatalf("%d pods, %v", len(pods.Items), err)
			}
			inOrder(t, &pods.Items[0], "app", 15*time.Second)
		})
	}
}

// inOrder says whether the sidecar of a pod ended after the application, and how long after.
func inOrder(t *testing.T, pod *corev1.Pod, app string, within time.Duration) {
	t.Helper()
	end := map[string]*corev1.ContainerStateTerminated{}
	for _, s := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		end[s.Name] = s.State.Terminated
		if s.RestartCount > 0 {
			t.Errorf("container %s was restarted", s.Name)
		}
	}
	a, p := end[app], end["isthmus-proxy"]
	if a == nil || p == nil {
		t.Fatalf("not all containers have ended: %v", end)
	}
	took := p.FinishedAt.Sub(a.FinishedAt.Time)
	if took < 0 || took > within || p.ExitCode != 0 {
		t.Errorf("the sidecar ended %s after the application, with code %d", took, p.ExitCode)
	}
	t.Logf("the sidecar ended %s after the application", took)
}

// An application calls through its sidecar until it has ended: while its preStop
// hook runs, and after its signal.
func TestCallsUntilTheEnd(t *testing.T) {
	const ns, url, finalizer = "until-end", "http://echo.until-end.svc.clusterset.local", "e2e.isthmus.dev/look"
	exportedEcho(t, ns, mesh.West).Reaches(t, url, time.Minute, "west")
	mesh.East.ApplyYAML(t, ns, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: last, labels: {app: last}, finalizers: [%s]}
spec:
  serviceAccountName: client
  restartPolicy: Never
  containers:
  - name: app
    image: 'isthmus-mesh/isthmus-samples:dev'
    args: [client, %s, --rate, "20", --timeout, 4s, --linger, 4s, --new-connections]
    lifecycle: {preStop: {exec: {command: [/isthmus-samples, client, %s, --count, "40", --rate, "20", --timeout, 4s]}}}
`, finalizer, url, url))
	pods := mesh.East.Kube.CoreV1().Pods(ns)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_, err := pods.Patch(ctx, "last", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		if err != nil {
			t.Error(err)
		}
	})
	mesh.East.Ready(t, ns, "app=last", 1)
	begin := time.Now()
	if err := pods.Delete(t.Context(), "last", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	var pod *corev1.Pod
	Eventually(t, time.Minute, "the pod has ended", func(ctx context.Context) (err error) {
		if pod, err = pods.Get(ctx, "last", metav1.GetOptions{}); err != nil {
			return err
		}
		if pod.Status.Phase != corev1.PodSucceeded {
			return fmt.Errorf("its phase is %s", pod.Status.Phase)
		}
		return nil
	})
	inOrder(t, pod, "app", 15*time.Second)
	for _, s := range pod.Status.ContainerStatuses { // its exit code counts every request that it made
		if took := s.State.Terminated.FinishedAt.Sub(begin); s.State.Terminated.ExitCode != 0 || took < 5*time.Second {
			t.Errorf("container %s ended after %s with code %d", s.Name, took, s.State.Terminated.ExitCode)
		}
	}
	if told := hookFailures(t, ns, "last"); told != "" {
		t.Errorf("the preStop hook failed: %s", told)
	}
}

// hookFailures returns what kubelet says of hooks of a pod that failed.
func hookFailures(t *testing.T, ns, pod string) string {
	t.Helper()
	events, err := mesh.East.Kube.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range events.Items {
		if e.InvolvedObject.Name == pod && (e.Reason == "FailedPreStopHook" || e.Reason == "FailedPostStartHook") {
			told = append(told, e.Message)
		}
	}
	return strings.Join(told, "\n")
}

// A hook that kubelet calls over the network arrives also where plaintext is
// refused, unless the pod leaves it to kubelet.
func TestHookOfStrictPod(t *testing.T) {
	mesh.Needs(t, Time)
	t.Parallel()
	const ns = "strict-hook"
	mesh.East.Namespace(t, ns, true)
	mesh.East.Apply(t, ns, "strict.yaml")
	for name, rewrite := range map[string]string{"rewritten": "true", "left": "false"} {
		mesh.East.ApplyYAML(t, ns, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %s}, annotations: {sidecar.istio.io/rewriteAppHTTPProbers: %q}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: echo
    image: 'isthmus-mesh/isthmus-samples:dev'
    args: [echo]
    ports: [{name: http, containerPort: 8080}]
    lifecycle: {preStop: {httpGet: {port: http, path: /}}}
`, name, name, rewrite))
	}
	for _, name := range []string{"rewritten", "left"} {
		mesh.East.Ready(t, ns, "app="+name, 1)
	}
	pods := mesh.East.Kube.CoreV1().Pods(ns)
	for _, name := range []string{"rewritten", "left"} {
		if err := pods.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	Eventually(t, time.Minute, "kubelet tells of the hook that it calls itself", func(context.Context) error {
		if hookFailures(t, ns, "left") == "" {
			return errors.New("no event yet")
		}
		return nil
	})
	mesh.East.Ready(t, ns, "app=rewritten", 0)
	if told := hookFailures(t, ns, "rewritten"); told != "" {
		t.Errorf("the hook that the sidecar calls failed: %s", told)
	}
}

// Connections of an excluded user leave the pod directly, those of others do not.
// (In the sandbox every process is user 0; elsewhere these are user 4000.)
func TestExcludedUser(t *testing.T) {
	t.Parallel()
	const ns, url = "excluded-user", "http://echo.excluded-user.svc.cluster.local"
	mesh.East.Namespace(t, ns, true)
	mesh.East.Apply(t, ns, echoFile)
	mesh.East.ApplyYAML(t, ns, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: client}\n")
	mesh.East.Ready(t, ns, "app=echo", 1)
	for name, test := range map[string]struct{ users, callers string }{
		"direct": {"0,4000", "[]"},
		"meshed": {"4001", "[spiffe://cluster.local/ns/excluded-user/sa/client]"},
	} {
		mesh.East.ApplyYAML(t, ns, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %s}, annotations: {isthmus.dev/exclude-outbound-uids: %q}}
spec:
  serviceAccountName: client
  terminationGracePeriodSeconds: 1
  containers: [{name: client, image: 'isthmus-mesh/isthmus-samples:dev', args: [idle], securityContext: {runAsUser: 4000}}]
`, name, name, test.users))
		mesh.East.Ready(t, ns, "app="+name, 1)
		caller := &Caller{cluster: mesh.East, namespace: ns, pod: name, box: "client"}
		if s := caller.Reaches(t, url, 30*time.Second, "east"); fmt.Sprint(s.Callers) != test.callers {
			t.Errorf("%s: the server saw callers %v, want %s", name, s.Callers, test.callers)
		}
	}
}

// A sidecar whose memory limit is reached is killed by the kernel, and comes back: the application was not touched, its requests are
// answered, the identity is that of before.
func TestSidecarOutOfMemory(t *testing.T) {
	mesh.Needs(t, MemoryLimits)
	const ns, url = "out-of-memory", "http://echo.out-of-memory.svc.clusterset.local"
	exportedEcho(t, ns, mesh.West).Reaches(t, url, time.Minute, "west")
	mesh.East.ApplyYAML(t, ns, `
apiVersion: v1
kind: Pod
metadata: {name: small, labels: {app: small}, annotations: {sidecar.istio.io/proxyMemoryLimit: 48Mi}}
spec:
  serviceAccountName: client
  terminationGracePeriodSeconds: 1
  containers: [{name: client, image: 'isthmus-mesh/isthmus-samples:dev', args: [idle]}]
`)
	mesh.East.Ready(t, ns, "app=small", 1)
	caller := &Caller{cluster: mesh.East, namespace: ns, pod: "small", box: "client"}
	before := caller.Reaches(t, url, time.Minute, "west")
	if log := caller.proxyLog(t); !strings.Contains(log, "memory below the container's limit\" bytes=45298483") { // nine tenths
		t.Errorf("it does not mind its limit:\n%s", log)
	}

	many, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	done := make(chan struct{})
	go func() { // requests that all wait, each on a connection of its own
		defer close(done)
		_, _ = caller.Call(many, url+"/?delay=30s", 4000, "--rate", "1000", "--concurrency", "4000", "--timeout", "30s", "--new-connections")
	}()
	Eventually(t, time.Minute, "the sidecar is killed for its memory", func(ctx context.Context) error { return caller.outOfMemory(ctx) })
	stop()
	<-done
	after := caller.Reaches(t, url, time.Minute, "west") // kubelet may wait 10 s
	if fmt.Sprint(after.Callers) != fmt.Sprint(before.Callers) {
		t.Errorf("the server saw callers %v, before %v", after.Callers, before.Callers)
	}
	if log := caller.proxyLog(t); !strings.Contains(log, "identity kept from before") {
		t.Errorf("it did not find its identity in the pod's memory:\n%s", log)
	}
	caller.othersUntouched(t)
}

// outOfMemory is nil when the pod's sidecar has been killed for its memory.
func (c *Caller) outOfMemory(ctx context.Context) error {
	pod, err := c.cluster.Kube.CoreV1().Pods(c.namespace).Get(ctx, c.pod, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, s := range pod.Status.InitContainerStatuses {
		for _, end := range []*corev1.ContainerStateTerminated{s.State.Terminated, s.LastTerminationState.Terminated} {
			if s.Name == "isthmus-proxy" && end != nil && end.Reason == "OOMKilled" {
				return nil
			}
		}
	}
	return fmt.Errorf("its containers are %v", pod.Status.InitContainerStatuses)
}

// A sidecar that is killed comes back: the application goes on, requests are answered within seconds, the redirect and the
// identity are those of before.
func TestKilledSidecar(t *testing.T) {
	mesh.Needs(t, Root)
	const ns, url = "killed", "http://echo.killed.svc.clusterset.local"
	caller := exportedEcho(t, ns, mesh.West)
	before := caller.Reaches(t, url, time.Minute, "west")
	server := mesh.West.Ready(t, ns, "app=echo", 1)[0]
	for _, victim := range []*Caller{caller, {cluster: mesh.West, namespace: ns, pod: server.Name, box: "echo"}} {
		t.Run(victim.box, func(t *testing.T) {
			traffic := caller.Traffic(t, url, 50, 2*time.Minute)
			traffic.Flowing(50)
			starts := victim.proxyStarts(t)
			killProxy(t, victim)
			killed := time.Now()
			var recovered time.Duration
			Eventually(t, 30*time.Second, "50 requests in a row are answered", func(context.Context) error {
				row := 0
				for _, r := range traffic.Since(killed) {
					if row++; r.Kind != "" {
						row, recovered = 0, r.Start.Sub(killed)
					}
				}
				if row < 50 {
					return fmt.Errorf("%d so far", row)
				}
				return nil
			})
			t.Logf("the last request that failed began %s after the kill; %s", recovered.Round(10*time.Millisecond), failures(traffic.Since(killed)))
			traffic.Stop()
			after := caller.Reaches(t, url, 30*time.Second, "west")
			if fmt.Sprint(after.Callers) != fmt.Sprint(before.Callers) {
				t.Errorf("the server saw callers %v, before %v", after.Callers, before.Callers)
			}
			if got := victim.proxyStarts(t); got != starts+1 {
				t.Errorf("the sidecar was restarted %d times", got-starts)
			}
			if log := victim.proxyLog(t); !strings.Contains(log, "identity kept from before") {
				t.Errorf("it did not find its identity in the pod's memory:\n%s", log)
			}
			victim.othersUntouched(t)
		})
	}
}

// proxyLog returns what the running sidecar of a pod has logged.
func (c *Caller) proxyLog(t *testing.T) string {
	t.Helper()
	log, err := c.cluster.Kube.CoreV1().Pods(c.namespace).GetLogs(c.pod, &corev1.PodLogOptions{Container: "isthmus-proxy"}).DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

// othersUntouched says whether a container but the sidecar was started again.
func (c *Caller) othersUntouched(t *testing.T) {
	t.Helper()
	pod, err := c.cluster.Kube.CoreV1().Pods(c.namespace).Get(t.Context(), c.pod, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		if s.Name != "isthmus-proxy" && s.RestartCount > 0 {
			t.Errorf("container %s was restarted", s.Name)
		}
	}
}

// killProxy sends SIGKILL to the process of a pod's sidecar, which is found by the
// pod's uid in its environment.
func killProxy(t *testing.T, c *Caller) {
	t.Helper()
	pod, err := c.cluster.Kube.CoreV1().Pods(c.namespace).Get(t.Context(), c.pod, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	killProcess(t, "POD_UID="+string(pod.UID), "\x00sidecar\x00")
}

// killProcess sends SIGKILL to the one process that has a variable, NAME=VALUE, and a part in its command line, which
// is \x00 after each word.
func killProcess(t *testing.T, variable, command string) {
	t.Helper()
	pids, err := processes(variable, command)
	if err != nil || len(pids) != 1 {
		t.Fatalf("processes %v, %v", pids, err)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// processes finds for killProcess.
func processes(variable, command string) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, file := range files {
		environ, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(environ, []byte(variable+"\x00")) {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		if err != nil || !bytes.Contains(line, []byte(command)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// The CLI prints what the webhook would do, and says what it leaves alone.
func TestInjectFile(t *testing.T) {
	mesh.Needs(t, Time)
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pods.yaml")
	text := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"by-hand","labels":{"app":"by-hand"}},"spec":{"containers":[{"name":"client","image":"isthmus-mesh/isthmus-samples:dev","args":["idle"]}],"terminationGracePeriodSeconds":1}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	const ns = "by-hand"
	mesh.East.Namespace(t, ns, false)
	mesh.East.ApplyYAML(t, ns, mesh.CLI(t, "inject", "-f", file, "--context", "east"))
	byHand := mesh.East.Ready(t, ns, "app=by-hand", 1)[0]
	mesh.East.Namespace(t, ns+"-not", true)
	mesh.East.ApplyYAML(t, ns+"-not", text)
	byWebhook := mesh.East.Ready(t, ns+"-not", "app=by-hand", 1)[0]
	var put [2]string
	for i, pod := range []corev1.Pod{byHand, byWebhook} {
		put[i] = fmt.Sprintln(pod.Annotations)
		for _, c := range pod.Spec.InitContainers {
			c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return strings.HasPrefix(m.Name, "kube-api-access-") }) // a random name
			out, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			put[i] += string(out) + "\n"
		}
	}
	if put[0] != put[1] {
		t.Errorf("by hand:\n%s\nby the webhook:\n%s", put[0], put[1])
	}
}
