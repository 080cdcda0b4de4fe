//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
)

const rotations = 100

// The remote secret is given a new token a hundred times under traffic: no request fails, no proxy is sent
// fewer endpoints, and the control plane holds no more goroutines than before.
func TestSecretRotatedUnderTraffic(t *testing.T) {
	mesh.Needs(t, Time)
	const ns, url = "rotation", "http://echo.rotation.svc.clusterset.local"
	caller := exportedEcho(t, ns, mesh.West)
	caller.Reaches(t, url, time.Minute, "west")
	mesh.East.WaitLink(t, "west", 30*time.Second, v1alpha1.LinkConnected)
	pod := mesh.East.SystemPod(t, "isthmusd")
	profile := "http://" + mesh.East.Forward(t, "isthmus-system", pod, api.PortAdmin) + "/debug/pprof/goroutine?debug=1"
	admin := "http://" + mesh.East.Forward(t, ns, caller.pod, api.PortAdmin)

	Eventually(t, 30*time.Second, pod+" leads: the controllers that a test before has moved are not for it to count", func(context.Context) error {
		if holder := mesh.East.leader(t); holder != pod {
			return fmt.Errorf("%s does", holder)
		}
		return nil
	})
	rotate(t, pod, 3) // whatever grows once has grown
	before, stacksBefore := goroutines(t, profile)
	traffic := caller.Traffic(t, url, 50, 10*time.Minute)
	traffic.Flowing(20)
	watching, stop := context.WithCancel(t.Context())
	fewer := make(chan error, 1)
	go func() { fewer <- watchEndpoints(watching, admin+"/config_dump", ns) }()

	rotate(t, pod, rotations)

	stop()
	if err := <-fewer; err != nil {
		t.Error(err)
	}
	if lost := failures(traffic.Stop()); lost != "" {
		t.Error(lost)
	}
	Eventually(t, time.Minute, "goroutines are back", func(context.Context) error {
		now, stacks := goroutines(t, profile)
		if now <= before+before/10+10 {
			return nil
		}
		err := fmt.Errorf("%d, before %d", now, before)
		for stack, n := range stacks {
			if n > stacksBefore[stack] {
				err = fmt.Errorf("%w\n%d, before %d:\n%s", err, n, stacksBefore[stack], stack)
			}
		}
		return err
	})
	mesh.East.WaitLink(t, "west", 30*time.Second, v1alpha1.LinkConnected)
	if now := mesh.East.SystemPod(t, "isthmusd"); now != pod {
		t.Errorf("the control plane is another pod: %s, before %s", now, pod)
	}
}

// rotate gives east's remote secret a new token n times, each after the control plane uses the last.
func rotate(t *testing.T, pod string, n int) {
	t.Helper()
	begin := replaced(t, pod)
	account := api.ReaderAccountName + "-east"
	if !mesh.West.IsPrimary() {
		account = api.ManagerAccountName + "-east"
	}
	secrets := mesh.East.Kube.CoreV1().Secrets("isthmus-system")
	for i := range n {
		secret, err := secrets.Get(t.Context(), "isthmus-remote-west", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		config, err := clientcmd.Load(secret.Data["kubeconfig"])
		if err != nil {
			t.Fatal(err)
		}
		token, err := mesh.West.Kube.CoreV1().ServiceAccounts("isthmus-system").CreateToken(t.Context(), account,
			&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(3600 + i))}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, user := range config.AuthInfos {
			user.Token = token.Status.Token
		}
		if secret.Data["kubeconfig"], err = clientcmd.Write(*config); err != nil {
			t.Fatal(err)
		}
		if _, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		Eventually(t, 30*time.Second, fmt.Sprintf("the control plane uses token %d", i+1), func(context.Context) error {
			if n := replaced(t, pod) - begin; n < i+1 {
				return fmt.Errorf("it has replaced its client %d times", n)
			}
			return nil
		})
	}
}

// replaced counts how often the control plane says that it replaced the client of a cluster.
func replaced(t *testing.T, pod string) int {
	t.Helper()
	log, err := mesh.East.Kube.CoreV1().Pods("isthmus-system").GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(log), "client replaced")
}

// watchEndpoints asks a sidecar for its load assignments until ctx ends, and returns an error when
// those of the namespace's exports are ever fewer than at first.
func watchEndpoints(ctx context.Context, url, ns string) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	first := -1
	for {
		page, err := get(ctx, url, nil)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		n := strings.Count(page, `"lbEndpoints"`) + strings.Count(page, `"lb_endpoints"`)
		if first < 0 {
			first = n
		}
		if first == 0 || n < first {
			return fmt.Errorf("load assignments with endpoints: %d, at first %d", n, first)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// goroutines counts a process's goroutines, also by their stacks, from its profile at url.
func goroutines(t *testing.T, url string) (int, map[string]int) {
	t.Helper()
	page, err := get(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum, stacks := 0, map[string]int{}
	for _, group := range strings.Split(page, "\n\n") {
		// goroutine profile: total SUM
		// N @ ADDRESS...
		// #	ADDRESS	FUNCTION+OFFSET	FILE:LINE
		n, stack := 0, ""
		for line := range strings.Lines(group) {
			switch fields := strings.Fields(line); {
			case len(fields) > 2 && fields[1] == "@":
				if n, err = strconv.Atoi(fields[0]); err != nil {
					t.Fatalf("read %q: %v", line, err)
				}
			case len(fields) == 4 && fields[0] == "#":
				stack += "\t" + fields[3] + "\n"
			}
		}
		sum, stacks[stack] = sum+n, stacks[stack]+n
	}
	if sum == 0 {
		t.Fatalf("no goroutines at %s", url)
	}
	return sum, stacks
}
