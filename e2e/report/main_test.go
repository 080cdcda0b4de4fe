package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const events = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"run","Package":"p","Test":"TestA/passes"}
{"Action":"pass","Package":"p","Test":"TestA/passes","Elapsed":1}
{"Action":"run","Package":"p","Test":"TestA/needs_more"}
{"Action":"output","Package":"p","Test":"TestA/needs_more","Output":"    a_test.go:3: one network: no gateway is between them\n"}
{"Action":"skip","Package":"p","Test":"TestA/needs_more","Elapsed":0}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":2.5}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    needs_test.go:31: there is no third cluster\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestB","Elapsed":0}
`

// The text passes, the table tells seconds, verdicts and why, and what the run cost.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	facts := filepath.Join(dir, "facts.json")
	if err := os.WriteFile(facts, []byte(`{"ground":"kind","topology":"multi-primary","start":[{"what":"isthmus install east west","seconds":9}],"memory":{"east-control-plane":536870912}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	end := `{"Action":"output","Package":"p","Output":"ok  \tp\t3.1s\n"}` + "\n" + `{"Action":"pass","Package":"p","Elapsed":3.1}` + "\n"
	var text, table strings.Builder
	ok, err := run(options{facts: facts, out: filepath.Join(dir, "out.json"), up: 41.25}, strings.NewReader(events+end), &text, &table)
	if err != nil || !ok {
		t.Fatalf("ok %t, %v", ok, err)
	}
	if !strings.HasSuffix(text.String(), "ok  \tp\t3.1s\n") || !strings.HasPrefix(text.String(), "=== RUN   TestA\n") {
		t.Errorf("text:\n%s", &text)
	}
	want := `
== end-to-end tests on kind, topology multi-primary
TEST              SECONDS  VERDICT  WHY
TestA             2.5      pass     
TestA/needs_more  0.0      skip     one network: no gateway is between them
TestB             0.0      skip     there is no third cluster
  41.2 s  make kind-up
   9.0 s  isthmus install east west
   2.5 s  tests
 512 MiB  east-control-plane
PASSED: 1 passed, 0 failed, 1 skipped
`
	if table.String() != want {
		t.Errorf("table:\n%s\nwant:\n%s", &table, want)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "out.json")); err != nil || !strings.Contains(string(data), `"why": "there is no third cluster"`) {
		t.Errorf("JSON, %v:\n%s", err, data)
	}
}

// A test that failed or did not end, a build that failed and no tests at all are no pass.
func TestNoPass(t *testing.T) {
	for name, in := range map[string]string{
		"a test failed": events + `{"Action":"run","Test":"TestC"}` + "\n" +
			`{"Action":"output","Test":"TestC","Output":"    c_test.go:7: it took too long\n"}` + "\n" +
			`{"Action":"output","Test":"TestC","Output":"    what the pods logged\n"}` + "\n" + `{"Action":"fail","Test":"TestC","Elapsed":1}` + "\n" + `{"Action":"fail"}` + "\n",
		"it did not end":  events + `{"Action":"run","Test":"TestC"}` + "\n" + `{"Action":"fail"}` + "\n",
		"no verdict":      events,
		"nothing at all":  "",
		"it did not even": "FAIL\tp [build failed]\n" + `{"Action":"build-fail"}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			var text, table strings.Builder
			ok, err := run(options{}, strings.NewReader(in), &text, &table)
			if err != nil || ok || !strings.Contains(table.String(), "FAILED: ") {
				t.Errorf("ok %t, %v:\n%s", ok, err, &table)
			}
			if strings.Contains(in, "TestC") && !strings.Contains(table.String(), "TestC") {
				t.Errorf("table:\n%s", &table)
			}
			if strings.Contains(in, "too long") && !regexp.MustCompile(`TestC +1.0 +FAIL +it took too long\n`).MatchString(table.String()) {
				t.Errorf("the table does not say why:\n%s", &table)
			}
		})
	}
}
