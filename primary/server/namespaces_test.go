package server_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/primary/server"
)

func TestParseExportNamespaces(t *testing.T) {
	for text, wrong := range map[string]string{
		"": "", "kube-system": "", "kube-public kube-system": "", "isthmus-system": "never exported", "kube-system isthmus-system": "never exported", "Kube_System": "no name", "a.b": "no name",
	} {
		names := strings.Fields(text)
		got, err := server.ParseExportNamespaces(append(names, names...))
		expect(t, text, err, wrong)
		if err == nil && strings.Join(got, " ") != text {
			t.Errorf("%q is read as %q", text, got)
		}
	}
	if _, err := server.ParseExportNamespaces([]string{""}); err == nil {
		t.Error("a namespace without a name")
	}
}
