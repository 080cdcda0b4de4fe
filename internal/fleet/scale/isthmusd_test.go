package scale_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// isthmusd is the running child.
type isthmusd struct {
	addresses
	pid int
	log string
}

// startIsthmusd starts the child; it ends with the test.
func startIsthmusd(t testing.TB, s settings) *isthmusd {
	t.Helper()
	data, err := json.Marshal(s)
	must(t, err)
	dir := t.TempDir()
	path := filepath.Join(dir, "settings.json")
	must(t, os.WriteFile(path, data, 0o600))
	log, err := os.Create(filepath.Join(dir, "log"))
	must(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^$") //nolint:gosec // this program
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	d := &isthmusd{pid: cmd.Process.Pid, log: log.Name()}
	t.Cleanup(func() {
		_ = stdin.Close()
		hard := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer hard.Stop()
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("log of isthmusd ends:\n%s", text[max(0, len(text)-4000):])
		}
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatalf("isthmusd did not start: %v", err)
	}
	must(t, json.Unmarshal(line, &d.addresses))
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	eventually(t, "isthmusd is ready", func() bool {
		response, err := http.Get("http://" + d.Health + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	eventually(t, "it leads", func() bool {
		var view struct{ Leader bool }
		return get("http://"+d.Debug+"/debug/clusters", &view) == nil && view.Leader
	})
	return d
}

func get(url string, into any) error {
	response, err := http.Get(url) //nolint:gosec // loopback
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(into)
}

// stats asks the child; with heap it collects garbage first.
func (d *isthmusd) stats(t testing.TB, heap bool) stats {
	t.Helper()
	url := "http://" + d.Control + "/stats"
	if heap {
		url += "?heap=1"
	}
	var out stats
	must(t, get(url, &out))
	return out
}

// profile writes a profile of the child to folder BENCH_PROFILES, if that is set.
func (d *isthmusd) profile(t testing.TB, name, query string) {
	dir := os.Getenv("BENCH_PROFILES")
	if dir == "" {
		return
	}
	response, err := http.Get("http://" + d.Control + "/debug/pprof/" + query)
	if err != nil {
		t.Errorf("profile %s: %v", name, err)
		return
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Errorf("profile %s: %v", name, err)
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".pprof"), data, 0o600); err != nil {
		t.Error(err)
	}
}

// cpu is the processor time that the child has used, user and system.
func (d *isthmusd) cpu(t testing.TB) time.Duration {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.pid))
	must(t, err)
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	var ticks int64
	for _, i := range []int{11, 12} { // utime, stime: fields 14 and 15 of proc(5)
		n, err := strconv.ParseInt(fields[i], 10, 64)
		must(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
}

// resident is the child's resident memory in bytes.
func (d *isthmusd) resident(t testing.TB) uint64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.pid))
	must(t, err)
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			must(t, err)
			return n << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 60 s: %s", what)
		}
		<-ticker.C
	}
}
