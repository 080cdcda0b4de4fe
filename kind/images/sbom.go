package images

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
)

// SBOM returns the bill of materials of a Go program, CycloneDX 1.6 in JSON,
// from what the linker wrote into it (go version -m). The same program gives
// the same bytes: there is no time in it, and its serial number is a hash.
func SBOM(binary string) ([]byte, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("read build info: %w", err)
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	bom := cyclonedx.NewBOM()
	bom.SerialNumber = serial(sum)
	bom.Metadata = &cyclonedx.Metadata{Component: program(filepath.Base(binary), info, sum)}
	bom.Components = components(info)
	bom.Dependencies = dependencies(bom)
	var out bytes.Buffer
	if err := cyclonedx.NewBOMEncoder(&out, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cyclonedx.SpecVersion1_6); err != nil {
		return nil, fmt.Errorf("write sbom: %w", err)
	}
	return out.Bytes(), nil
}

func program(name string, info *debug.BuildInfo, sum [32]byte) *cyclonedx.Component {
	return &cyclonedx.Component{
		BOMRef: "program", Type: cyclonedx.ComponentTypeApplication, Name: name, Version: info.Main.Version, PackageURL: purl(info.Main.Path, info.Main.Version),
		Hashes: &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
	}
}

// components are the modules that were linked in, and Go's standard library.
func components(info *debug.BuildInfo) *[]cyclonedx.Component {
	version := strings.TrimPrefix(info.GoVersion, "go")
	out := []cyclonedx.Component{module("std", version)}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		out = append(out, module(m.Path, m.Version))
	}
	return &out
}

func module(path, version string) cyclonedx.Component {
	url := purl(path, version)
	return cyclonedx.Component{BOMRef: url, Type: cyclonedx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: url}
}

// dependencies says that the program holds each of them: the linker does not
// tell which module needs which.
func dependencies(bom *cyclonedx.BOM) *[]cyclonedx.Dependency {
	var refs []string
	for _, c := range *bom.Components {
		refs = append(refs, c.BOMRef)
	}
	return &[]cyclonedx.Dependency{{Ref: bom.Metadata.Component.BOMRef, Dependencies: &refs}}
}

func purl(path, version string) string { return "pkg:golang/" + path + "@" + version }

// serial is a UUID of version 8 (RFC 9562 §5.8) made of a hash.
func serial(sum [32]byte) string {
	b := sum[:16]
	b = append([]byte(nil), b...)
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
