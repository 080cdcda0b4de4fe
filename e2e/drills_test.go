//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill"
)

// drilled is one scenario, broken by what works on any cluster, and what is wanted beyond a verdict of pass.
type drilled struct {
	scenario string
	flags    []string
	home     bool // own pods of east serve; otherwise clusters besides it, so that requests move
	lossless bool // no request fails
	clean    bool // none fails that begins 2 s after the break or later
	noticed  bool // the link says that something is broken, and that all is well again
}

var wholeCluster = drilled{scenario: drill.ScenarioWholeCluster, flags: []string{"--remote", "west", "--means", "mesh"}, clean: true, noticed: true}

var allDrills = []drilled{
	{scenario: drill.ScenarioLocalEndpoints, home: true, lossless: true},
	{scenario: drill.ScenarioGatewayRefuse, flags: []string{"--remote", "west", "--means", "mesh"}, lossless: true, noticed: true},
	{scenario: drill.ScenarioGatewayDrop, flags: []string{"--remote", "west", "--means", "mesh"}, clean: true, noticed: true},
	{scenario: drill.ScenarioAPIServer, flags: []string{"--remote", "west", "--means", "mesh"}, lossless: true, noticed: true},
	{scenario: drill.ScenarioControlPlane, lossless: true},
	wholeCluster,
	{scenario: drill.ScenarioSlow, flags: []string{"--remote", "west"}, lossless: true},
	{scenario: drill.ScenarioFlap, flags: []string{"--remote", "west", "--means", "mesh"}, lossless: true},
}

// How long the parts of each drill last, and how many requests are sent each second.
const (
	drillRate     = 100
	drillBaseline = 3 * time.Second
	drillBroken   = 10 * time.Second
	drillAfter    = 4 * time.Second
)

// Every scenario passes at 100 requests a second, with the rights of the sample and no others.
func TestDrills(t *testing.T) {
	mesh.Needs(t, SeparateNetworks, Time)
	const away, home = "drills-away", "drills-home"
	serve(t, away, others(t, away))
	serve(t, home, []*Cluster{mesh.West, mesh.East})
	account := drillAccount(t, away, home)
	for _, d := range allDrills {
		t.Run(d.scenario, func(t *testing.T) {
			began := time.Now()
			ns := away
			if d.home {
				ns = home
			}
			r := runDrill(t, d, ns, account)
			d.judge(t, r)
			t.Logf("%s: %s in %.0f s, %d requests, %d failed; %s", d.scenario, strings.ToUpper(r.Verdict), time.Since(began).Seconds(), r.Requests, r.Errors, r.What)
		})
	}
}

// others are the clusters besides east from which a service is drilled that has the namespace. Where there are only
// two clusters, the one that is left answers for itself.
func others(t *testing.T, namespace string) []*Cluster {
	t.Helper()
	if mesh.North == nil {
		return []*Cluster{mesh.West, mesh.East}
	}
	mesh.North.Namespace(t, namespace, true)
	return []*Cluster{mesh.West, mesh.North}
}

// serve exports echo from clusters and waits until east is answered by those that it should be.
func serve(t *testing.T, namespace string, in []*Cluster) {
	t.Helper()
	caller := exportedEcho(t, namespace, in...)
	var answer []string
	for _, c := range in {
		answer = append(answer, c.Name)
		if c != mesh.East {
			mesh.East.WaitLink(t, c.Name, time.Minute, v1alpha1.LinkConnected)
		}
	}
	if slices.Contains(answer, mesh.East.Name) {
		answer = []string{mesh.East.Name} // own pods come first
	}
	caller.Reaches(t, "http://echo."+namespace+".svc.clusterset.local", time.Minute, answer...)
}

// drillRights are the rights that the sample gives to whoever drills.
const drillRights = "../samples/drills/rights.yaml"

// drillAccount makes an account in each cluster that may do no more than the sample says, and returns a
// kubeconfig with its tokens.
func drillAccount(t *testing.T, namespaces ...string) string {
	t.Helper()
	const account, home = "driller", "isthmus-system"
	config := clientcmdapi.NewConfig()
	for _, c := range mesh.All() {
		c.Apply(t, "", drillRights)
		c.ApplyYAML(t, home, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: "+account+"}\n")
		subject := "subjects: [{kind: ServiceAccount, name: " + account + ", namespace: " + home + "}]\n"
		bind := func(kind, role string) string {
			return "apiVersion: rbac.authorization.k8s.io/v1\nkind: " + kind + "\nmetadata: {name: " + role + "}\n" +
				"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: " + role + "}\n" + subject
		}
		c.ApplyYAML(t, "", bind("ClusterRoleBinding", "isthmus-drill-look"))
		c.ApplyYAML(t, home, bind("RoleBinding", "isthmus-drill-mesh"))
		for _, ns := range namespaces {
			if _, err := c.Kube.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{}); err == nil {
				c.ApplyYAML(t, ns, bind("RoleBinding", "isthmus-drill-service"))
			}
		}
		t.Cleanup(func() { c.dropDrillAccount(t, home, account) })
		token, err := c.Kube.CoreV1().ServiceAccounts(home).CreateToken(t.Context(), account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		config.Clusters[c.Name] = &clientcmdapi.Cluster{Server: c.config.Host, CertificateAuthorityData: c.config.CAData}
		config.AuthInfos[c.Name] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
		config.Contexts[c.Name] = &clientcmdapi.Context{Cluster: c.Name, AuthInfo: c.Name}
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func (c *Cluster) dropDrillAccount(t *testing.T, home, account string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	rbac := schema.GroupVersion{Group: "rbac.authorization.k8s.io", Version: "v1"}
	for _, err := range []error{
		c.Delete(ctx, rbac.WithResource("clusterrolebindings"), "", "isthmus-drill-look"),
		c.Delete(ctx, rbac.WithResource("rolebindings"), home, "isthmus-drill-mesh"),
		c.Delete(ctx, rbac.WithResource("clusterroles"), "", "isthmus-drill-look"),
		c.Delete(ctx, rbac.WithResource("clusterroles"), "", "isthmus-drill-mesh"),
		c.Delete(ctx, rbac.WithResource("clusterroles"), "", "isthmus-drill-service"),
		c.Delete(ctx, schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}, home, account),
	} {
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}

// args are the command line of the drill on echo of a namespace.
func (d drilled) args(namespace string, more ...string) []string {
	args := []string{"drill", d.scenario, "--context", mesh.East.Name, "--service", namespace + "/echo", "--rate", fmt.Sprint(drillRate)}
	args = append(args, "--baseline", drillBaseline.String(), "--duration", drillBroken.String(), "--after", drillAfter.String())
	return append(append(args, d.flags...), more...)
}

// runDrill does a drill. That it did not pass is in the result; that it could not be done ends the test.
func runDrill(t *testing.T, d drilled, namespace, kubeconfig string) drill.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := mesh.run(ctx, d.args(namespace, "-o", "json", "--kubeconfig", kubeconfig)...)
	var r drill.Result
	if jsonErr := json.Unmarshal([]byte(out), &r); jsonErr != nil || r.Verdict == "" {
		t.Fatalf("%v, %v", err, jsonErr)
	}
	return r
}

func (d drilled) judge(t *testing.T, r drill.Result) {
	t.Helper()
	if r.Verdict != drill.Pass {
		t.Errorf("%s: %s", r.Verdict, strings.Join(r.Reasons, "; "))
	}
	var sent float64
	for _, p := range r.Phases {
		sent += p.Seconds * drillRate
		if p.Requests == 0 {
			t.Errorf("no request in phase %s", p.Name)
		}
	}
	if float64(r.Requests) < 0.8*sent {
		t.Errorf("%d requests were sent, at %d a second there were %.0f", r.Requests, drillRate, sent)
	}
	if d.lossless && r.Errors > 0 {
		t.Errorf("%d of %d requests failed", r.Errors, r.Requests)
	}
	if last := r.LastFailureSeconds; d.clean && (last != nil && *last >= 2 || r.Phases[0].Failed+r.Phases[2].Failed > 0) {
		t.Errorf("a request failed that began %s after the break; before it %d failed, after the restore %d", seconds(last), r.Phases[0].Failed, r.Phases[2].Failed)
	}
	if d.noticed && (r.NoticedSeconds == nil || r.HealedSeconds == nil) {
		t.Errorf("the link said so after %s, and that all is well %s after the restore", seconds(r.NoticedSeconds), seconds(r.HealedSeconds))
	}
}

// seconds prints a measure that a report may lack.
func seconds(s *float64) string {
	if s == nil {
		return "no time known"
	}
	return fmt.Sprintf("%.1f s", *s)
}

// noDrill asks whether a drill has left something in a cluster.
func (c *Cluster) noDrill(ctx context.Context, namespace string) error {
	if _, err := c.Kube.CoordinationV1().Leases("isthmus-system").Get(ctx, drill.NoteName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("%s: the note of a drill is there: %v", c.Name, err)
	}
	if _, err := c.Kube.AppsV1().Deployments(namespace).Get(ctx, drill.ClientName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("%s: the client of a drill is there: %v", c.Name, err)
	}
	if c == mesh.West {
		return nil
	}
	link, err := c.Link(ctx, mesh.West.Name)
	if err == nil && (link.Spec.Fault != nil || link.Status.Fault != "") {
		err = fmt.Errorf("%s: its link has the fault %v, in force is %q", c.Name, link.Spec.Fault, link.Status.Fault)
	}
	return err
}

// running is a drill in the background.
type running struct {
	*exec.Cmd
	errs  lockedBuffer
	ended chan error
}

// underWay loses all of west, for minutes, and returns when that is so.
func underWay(t *testing.T, namespace string) *running {
	t.Helper()
	r := &running{Cmd: mesh.command(t.Context(), wholeCluster.args(namespace, "--duration", "5m")...), ended: make(chan error, 1)}
	r.Stderr = &r.errs
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.ended <- r.Wait() }()
	t.Cleanup(func() {
		_ = r.Process.Kill()
		if t.Failed() {
			fmt.Fprintf(t.Output(), "the drill said:\n%s", r.errs.String())
		}
	})
	Eventually(t, time.Minute, "the drill breaks the link", func(ctx context.Context) error {
		link, err := mesh.East.Link(ctx, mesh.West.Name)
		if err == nil && (link.Status.Fault != drill.ModeDrop || !strings.HasPrefix(link.Status.Message, "a drill has ")) {
			err = fmt.Errorf("fault %q, %q", link.Status.Fault, link.Status.Message)
		}
		return err
	})
	mesh.East.WaitLink(t, mesh.West.Name, time.Minute, v1alpha1.LinkDegraded, v1alpha1.LinkLost)
	return r
}

// wait returns how the drill ended.
func (r *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("the drill did not end")
		return nil
	}
}

// exitCode is that of a command that ran.
func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return 0
}

// A second drill is refused while one runs. One that is killed leaves nothing broken for longer than its faults live,
// and a note by which the rest is undone.
func TestDrillKilled(t *testing.T) {
	mesh.Needs(t, SeparateNetworks, Time)
	const ns = "drills-killed"
	serve(t, ns, others(t, ns))
	first := underWay(t, ns)
	_, err := mesh.run(t.Context(), wholeCluster.args(ns)...)
	if exitCode(err) != 1 || !strings.Contains(err.Error(), "another drill runs, noted in ") || !strings.Contains(err.Error(), "next: ") {
		t.Errorf("a second drill: %v", err)
	}
	status, _ := mesh.run(t.Context(), "status", mesh.East.Name) // the exit code tells of the link
	if !strings.Contains(status, "drill: whole-cluster on "+ns+"/echo by ") || !strings.Contains(status, "a drill has its API server answer nothing") {
		t.Errorf("the status does not tell of the drill:\n%s", status)
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.wait(t)
	killed := time.Now()
	mesh.East.WaitLink(t, mesh.West.Name, time.Minute, v1alpha1.LinkConnected)
	t.Logf("whole again %.0f s after the kill, by itself", time.Since(killed).Seconds())
	mesh.CLI(t, "drill", "restore", "--context", mesh.West.Name, "--force")
	nothingLeft(t, ns)
	if out := mesh.CLI(t, "drill", "restore", "--context", mesh.East.Name); !strings.Contains(out, "nothing to restore") {
		t.Errorf("restored twice: %s", out)
	}
}

// A drill that is interrupted restores everything at once.
func TestDrillInterrupted(t *testing.T) {
	mesh.Needs(t, SeparateNetworks, Time)
	const ns = "drills-interrupted"
	serve(t, ns, others(t, ns))
	r := underWay(t, ns)
	if err := r.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := r.wait(t); exitCode(err) != 130 {
		t.Errorf("it ended with %v", err)
	}
	nothingLeft(t, ns)
	mesh.East.WaitLink(t, mesh.West.Name, time.Minute, v1alpha1.LinkConnected)
}

// nothingLeft waits until no cluster has anything of a drill; the status of a link follows its spec.
func nothingLeft(t *testing.T, namespace string) {
	t.Helper()
	for _, c := range mesh.All() {
		Eventually(t, 10*time.Second, "nothing is left of the drill", func(ctx context.Context) error { return c.noDrill(ctx, namespace) })
	}
}

// A service that has nowhere to go is not drilled, and nothing is changed to find that out.
func TestDrillNowhereToGo(t *testing.T) {
	mesh.Needs(t, SeparateNetworks, Time)
	const ns = "drills-nowhere"
	serve(t, ns, []*Cluster{mesh.West})
	for _, scenario := range []string{drill.ScenarioGatewayRefuse, drill.ScenarioGatewayDrop, drill.ScenarioWholeCluster, drill.ScenarioFlap} {
		_, err := mesh.run(t.Context(), drilled{scenario: scenario}.args(ns, "--means", "mesh", "--force")...)
		if exitCode(err) != 1 || !strings.Contains(err.Error(), "without west nobody would answer") || !strings.Contains(err.Error(), "next: isthmus export "+ns+"/echo") {
			t.Errorf("%s: %v", scenario, err)
		}
	}
	nothingLeft(t, ns)
}
