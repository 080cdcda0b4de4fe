// Package images makes container images from static programs, without an engine
// and without a registry: the same inputs give the same bytes.
package images

import (
	"archive/tar"
	"cmp"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// A File goes into a layer, owned by root.
type File struct {
	Path   string // in the image, without a leading slash; ending in one it is a directory
	Source string // file on this machine, unless Data, Link or a directory
	Data   []byte
	Link   string // target of a symbolic link
	Mode   int64  // 0 means 0755
}

// epoch is every file's time: an image that is built again must not differ.
var epoch = time.Unix(0, 0).UTC()

// Layer makes a layer of files, with the directories that they need. Nothing
// is read before the layer is.
func Layer(files []File, options ...tarball.LayerOption) (v1.Layer, error) {
	all := withParents(files)
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() { w.CloseWithError(writeAll(w, all)) }() // ends when the reader is closed, too
		return r, nil
	}, options...)
}

func writeAll(to io.Writer, files []File) error {
	w := tar.NewWriter(to)
	for _, f := range files {
		if err := f.write(w); err != nil {
			return fmt.Errorf("layer: %s: %w", f.Path, err)
		}
	}
	return w.Close()
}

// withParents adds directories that nobody named, and sorts, so that each comes
// before what is in it.
func withParents(files []File) []File {
	all := map[string]File{}
	for _, f := range files {
		for dir := path.Dir(strings.TrimSuffix(f.Path, "/")); dir != "."; dir = path.Dir(dir) {
			if _, named := all[dir]; !named {
				all[dir] = File{Path: dir + "/"}
			}
		}
		all[strings.TrimSuffix(f.Path, "/")] = f
	}
	out := make([]File, 0, len(all))
	for _, f := range all {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return out
}

func (f File) write(w *tar.Writer) error {
	header := tar.Header{Name: f.Path, Mode: cmp.Or(f.Mode, 0o755), ModTime: epoch, Format: tar.FormatPAX}
	switch {
	case f.Link != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, f.Link
	case strings.HasSuffix(f.Path, "/"):
		header.Typeflag = tar.TypeDir
	case f.Source != "":
		return f.copy(w, header)
	default:
		header.Typeflag, header.Size = tar.TypeReg, int64(len(f.Data))
	}
	if err := w.WriteHeader(&header); err != nil {
		return err
	}
	_, err := w.Write(f.Data)
	return err
}

func (f File) copy(w *tar.Writer, header tar.Header) error {
	in, err := os.Open(f.Source)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := w.WriteHeader(&header); err != nil {
		return err
	}
	_, err = io.Copy(w, in)
	return err
}

// Image puts layers under a configuration. Platform and times are set.
func Image(config v1.Config, layers ...v1.Layer) (v1.Image, error) {
	image, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Created = architecture(), "linux", v1.Time{Time: epoch}
	file.Config = config
	file.History = nil
	return mutate.ConfigFile(image, file)
}
