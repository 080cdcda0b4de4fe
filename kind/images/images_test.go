package images

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// self builds a Go program of this module.
func self(t *testing.T) (bin, program string) {
	t.Helper()
	bin = t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../cmd/isthmus-node")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin, "isthmus-node"
}

// Built twice, archive and bill of materials are the same bytes, and the image runs as nobody.
func TestReproducible(t *testing.T) {
	bin, program := self(t)
	var seen [2][]byte
	for i := range seen {
		out := t.TempDir()
		archives, err := Write(Options{Bin: bin, Out: out, Hub: "isthmus-mesh", Tag: "dev", Programs: []string{program}})
		if err != nil {
			t.Fatal(err)
		}
		archive, err1 := os.ReadFile(archives[0])
		sbom, err2 := os.ReadFile(filepath.Join(out, program+".cdx.json"))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		seen[i] = append(archive, sbom...)
		image, err := tarball.ImageFromPath(archives[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Config.User != nobody || config.Config.Entrypoint[0] != "/"+program || !config.Created.Equal(epoch) {
			t.Errorf("config %+v", config)
		}
	}
	if !bytes.Equal(seen[0], seen[1]) {
		t.Error("two builds of the same program differ")
	}
}

// The bill of materials names the modules that are linked in.
func TestSBOM(t *testing.T) {
	bin, program := self(t)
	data, err := SBOM(filepath.Join(bin, program))
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BOMFormat, SpecVersion, SerialNumber string
		Components                           []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal(data, &bom); err != nil {
		t.Fatal(err)
	}
	if bom.BOMFormat != "CycloneDX" || bom.SpecVersion != "1.6" || len(bom.SerialNumber) != len("urn:uuid:")+36 {
		t.Errorf("%s %s %s", bom.BOMFormat, bom.SpecVersion, bom.SerialNumber)
	}
	found := map[string]bool{}
	for _, c := range bom.Components {
		found[c.Name] = c.Version != "" && c.PURL == "pkg:golang/"+c.Name+"@"+c.Version
	}
	for _, want := range []string{"std", "golang.org/x/sys"} {
		if !found[want] {
			t.Errorf("%s is not in it: %v", want, bom.Components)
		}
	}
}
