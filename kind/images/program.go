package images

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// architecture is this machine's: the programs are its own.
func architecture() string { return runtime.GOARCH }

// nobody is the user of our images where a pod does not say another. isthmus-proxy
// becomes root only where a pod's spec says so: in the init container and the
// sidecar, whose capabilities count for uid 0 alone.
const nobody = "65532:65532"

// Options say which images to make.
type Options struct {
	Bin      string   // folder of the programs
	Out      string   // folder for NAME.tar and NAME.cdx.json
	Hub, Tag string   // as the chart's values
	Programs []string // file names in Bin, which are also the repositories' names
}

// Write makes an archive and a bill of materials for each program, and returns
// the archives. A file that would not change is left alone, so that its time
// tells when it did.
func Write(o Options) ([]string, error) {
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return nil, err
	}
	var archives []string
	for _, program := range o.Programs {
		archive, err := o.write(program)
		if err != nil {
			return nil, fmt.Errorf("image of %s: %w", program, err)
		}
		archives = append(archives, archive)
	}
	return archives, nil
}

func (o Options) write(program string) (archive string, err error) {
	binary := filepath.Join(o.Bin, program)
	sbom, err := SBOM(binary)
	if err != nil {
		return "", err
	}
	image, err := Program(binary, sbom)
	if err != nil {
		return "", err
	}
	archive = filepath.Join(o.Out, program+".tar")
	if err := Save(archive, map[string]v1.Image{fmt.Sprintf("%s/%s:%s", o.Hub, program, o.Tag): image}); err != nil {
		return "", err
	}
	return archive, replace(filepath.Join(o.Out, program+".cdx.json"), sbom)
}

// Program is an image of one static program, at the root and as its entry
// point, with its bill of materials where scanners look for one, and a place
// for temporary files.
func Program(binary string, sbom []byte) (v1.Image, error) {
	base := filepath.Base(binary)
	layer, err := Layer([]File{
		{Path: base, Source: binary},
		{Path: "tmp/", Mode: 0o1777},
		{Path: "usr/share/sbom/" + base + ".cdx.json", Data: sbom, Mode: 0o644},
	})
	if err != nil {
		return nil, err
	}
	return Image(v1.Config{Entrypoint: []string{"/" + base}, User: nobody, WorkingDir: "/"}, layer)
}

// Save writes an archive as docker save does, which docker load and containerd
// import take. One image may have several names.
func Save(path string, images map[string]v1.Image) error {
	byTag := map[name.Reference]v1.Image{}
	for text, image := range images {
		tag, err := name.NewTag(text)
		if err != nil {
			return err
		}
		byTag[tag] = image
	}
	var out bytes.Buffer
	if err := tarball.MultiRefWrite(byTag, &out); err != nil {
		return err
	}
	return replace(path, out.Bytes())
}

// replace writes a file at once, unless it holds that already.
func replace(path string, data []byte) error {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, data) {
		return nil
	}
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
