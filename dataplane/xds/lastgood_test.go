package xds

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
)

func sample(t testing.TB) []*discoveryv3.DeltaDiscoveryResponse {
	t.Helper()
	return []*discoveryv3.DeltaDiscoveryResponse{
		{TypeUrl: TypeCluster, Resources: []*discoveryv3.Resource{wrap(t, "1", edsCluster("a"))}},
		{TypeUrl: TypeEndpoint, Resources: []*discoveryv3.Resource{wrap(t, "1", assignment("a"))}, RemovedResources: []string{"b"}},
	}
}

// A file that was cut anywhere, or of which a byte changed, is seen and refused.
func TestTornFile(t *testing.T) {
	file := &File{Path: filepath.Join(t.TempDir(), "last-good"), Node: "n"}
	if err := file.Write(sample(t)); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file.Path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 0x10
		for _, data := range [][]byte{whole[:i], flipped} {
			if _, err := decodeLastGood("n", data); !errors.Is(err, ErrLastGood) {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
	}
	if _, err := decodeLastGood("another", whole); !errors.Is(err, ErrLastGood) {
		t.Errorf("another's file: %v", err)
	}
	got, err := file.Read()
	if err != nil || len(got) != 2 || !proto.Equal(got[1], sample(t)[1]) {
		t.Errorf("read %v, %v", got, err)
	}
}

// Where the new file cannot be written, the old one stays and nothing is left over.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	file := &File{Path: filepath.Join(dir, "last-good"), Node: "n"}
	if err := file.Write(sample(t)); err != nil {
		t.Fatal(err)
	}
	if err := (&File{Path: filepath.Join(dir, "none", "last-good"), Node: "n"}).Write(nil); err == nil {
		t.Error("written to a folder that is not there")
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := (&File{Path: filepath.Join(dir, "taken"), Node: "n"}).Write(nil); err == nil {
		t.Error("written over a folder")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := file.Read(); err != nil {
		t.Error(err)
	}
}

func FuzzLastGood(f *testing.F) {
	good, err := encodeLastGood("n", sample(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(lastGoodMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		responses, err := decodeLastGood("n", data)
		if err != nil {
			if !errors.Is(err, ErrLastGood) {
				t.Fatal(err)
			}
			return
		}
		if again, err := encodeLastGood("n", responses); err != nil || len(again) == 0 {
			t.Fatalf("accepted and not written again: %v", err)
		}
	})
}
