package cri

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// nonRoot is the user that images say they have. It satisfies runAsNonRoot;
// nothing else is done with it, as there may be but one user here.
const nonRoot = 65532

// An image is a program on this machine.
type image struct {
	repository string   // without tag
	program    string   // path of the static binary; empty for tools
	entrypoint []string // when the pod gives no command
	tools      bool     // the container sees the host's /usr
	commands   []string // the names of program, all in the root folder
}

// builtIn maps the last part of a repository's name to a program. Any other
// program in bin/ can be had as isthmus-mesh/PROGRAM.
var builtIn = map[string]string{
	"isthmusd": "isthmusd", "isthmus-proxy": "isthmus-proxy", "isthmus-samples": "isthmus-samples",
	"coredns": "isthmus-coredns",
}

// standIn is the program of network tools that conformance suites call.
const standIn = "isthmus-standin"

// lookUp finds the image that ref names. The error is for the pod's event.
func (s *Server) lookUp(ref string) (*image, error) {
	repository := repositoryOf(ref)
	parts := strings.Split(repository, "/")
	name := parts[len(parts)-1]
	if strings.HasSuffix(parts[0], ".invalid") { // so that what happens without an image can be tried; RFC 2606 keeps the name free
		return nil, fmt.Errorf("pull %q: there is no registry %s", ref, parts[0])
	}
	switch name {
	case "toolbox", "busybox":
		img := &image{repository: repository, entrypoint: []string{"sleep", "infinity"}, tools: true}
		if path := filepath.Join(s.opts.Bin, standIn); name == "busybox" && executable(path) {
			img.program, img.commands = path, []string{"nc", "nslookup"}
		}
		return img, nil
	case "socat":
		path := filepath.Join(s.opts.Bin, standIn)
		if !executable(path) {
			return nil, fmt.Errorf("the program of image %q, bin/%s, is not built: run `scripts/conformance.sh`", ref, standIn)
		}
		return &image{repository: repository, entrypoint: []string{"/socat"}, tools: true, program: path, commands: []string{"socat"}}, nil
	}
	program, ok := builtIn[name]
	if !ok && len(parts) > 1 && parts[len(parts)-2] == "isthmus-mesh" {
		program = name
	}
	if program == "" {
		return nil, fmt.Errorf("the sandbox has no registry and cannot pull %q: it runs %s, and the program bin/NAME as isthmus-mesh/NAME", ref, names())
	}
	path := filepath.Join(s.opts.Bin, program)
	if !executable(path) {
		return nil, fmt.Errorf("the program of image %q, bin/%s, is not built: run `make build`", ref, program)
	}
	return &image{repository: repository, program: path, entrypoint: []string{"/" + name}, commands: []string{name}}, nil
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func names() string {
	list := []string{"toolbox"}
	for name := range builtIn {
		list = append(list, name)
	}
	sort.Strings(list)
	return strings.Join(list, ", ")
}

// repositoryOf cuts tag and digest off.
func repositoryOf(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		ref = ref[:i]
	}
	return ref
}

func (i *image) describe(ref string) *runtimeapi.Image {
	return &runtimeapi.Image{
		Id: i.repository, RepoTags: []string{ref}, RepoDigests: []string{i.repository + "@sha256:" + strings.Repeat("0", 64)},
		Size: 1, Uid: &runtimeapi.Int64Value{Value: nonRoot}, Spec: &runtimeapi.ImageSpec{Image: ref},
	}
}

// ImageStatus finds a built-in image. One that cannot be had is simply absent;
// kubelet then pulls it and learns why not.
func (s *Server) ImageStatus(_ context.Context, req *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	img, err := s.lookUp(req.GetImage().GetImage())
	if err != nil {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	return &runtimeapi.ImageStatusResponse{Image: img.describe(req.GetImage().GetImage())}, nil
}

// PullImage succeeds for built-in images, which need no pulling. The text of
// its error becomes the pod's event.
func (s *Server) PullImage(_ context.Context, req *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	img, err := s.lookUp(req.GetImage().GetImage())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PullImageResponse{ImageRef: img.repository}, nil
}

// ListImages lists nothing, so that nothing is collected as garbage.
func (s *Server) ListImages(context.Context, *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	return &runtimeapi.ListImagesResponse{}, nil
}

// RemoveImage keeps the image.
func (s *Server) RemoveImage(context.Context, *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	return &runtimeapi.RemoveImageResponse{}, nil
}

// ImageFsInfo names a file system, as kubelet wants one.
func (s *Server) ImageFsInfo(context.Context, *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	usage := []*runtimeapi.FilesystemUsage{{
		FsId:      &runtimeapi.FilesystemIdentifier{Mountpoint: s.opts.Scratch},
		UsedBytes: &runtimeapi.UInt64Value{}, InodesUsed: &runtimeapi.UInt64Value{},
	}}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: usage, ContainerFilesystems: usage}, nil
}
