package main

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	specs, err := parse([]byte(`[{"SpecReports":[
		{"LeafNodeType":"BeforeSuite","State":"passed"},
		{"LeafNodeType":"It","LeafNodeText":"optional one","LeafNodeLabels":["Optional","DNS"],"State":"failed"},
		{"LeafNodeType":"It","ContainerHierarchyTexts":["","A service"],"ContainerHierarchyLabels":[[],["Required"]],"LeafNodeText":"is there","State":"passed"}]}]`))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := write(&out, specs); err != nil {
		t.Fatal(err)
	}
	want := "RESULT  LEVEL     SPEC\n" +
		"passed  required  A service is there\n" +
		"failed  optional  optional one\n" +
		"\nrequired: 1 of 1 passed; optional: 0 of 1 passed\n"
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

func TestBadReports(t *testing.T) {
	for _, text := range []string{"", "{}", "[]", `[{"SpecReports":[]}]`, "null"} {
		if specs, err := parse([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, specs)
		}
	}
}
