// SPDX-License-Identifier: Apache-2.0

// Graphs made with BuildKit's own client, as JSON: the oracle for those of tests/llb/test_buildkit_client.py.
//
// With a file's name it reads a definition from there instead, and prints its operations as Go marshals them again.
package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/proto"
)

const image = "docker.io/library/debian:12"

func main() {
	result := map[string][][]byte{}
	if len(os.Args) > 1 {
		result["again"] = again(os.Args[1])
	} else {
		for name, state := range graphs() {
			result[name] = marshal(state, llb.LinuxAmd64)
		}
		variant := llb.Platform(ocispecs.Platform{OS: "linux", Architecture: "arm", Variant: "v7"})
		result["another platform"] = marshal(llb.Image(image).Run(llb.Args([]string{"true"})).Root(), variant)
	}
	must(json.NewEncoder(os.Stdout).Encode(result))
}

func marshal(state llb.State, options ...llb.ConstraintsOpt) [][]byte {
	options = append(options, llb.LocalUniqueID("unique"))
	definition, err := state.Marshal(context.Background(), options...)
	must(err)
	return definition.Def
}

func again(path string) [][]byte {
	data, err := os.ReadFile(path)
	must(err)
	var definition pb.Definition
	must(proto.Unmarshal(data, &definition))
	var operations [][]byte
	for _, one := range definition.Def {
		var op pb.Op
		must(proto.Unmarshal(one, &op))
		written, err := proto.MarshalOptions{Deterministic: true}.Marshal(&op)
		must(err)
		operations = append(operations, written)
	}
	return operations
}

func graphs() map[string]llb.State {
	base := llb.Image(image)
	upgraded := base.Run(llb.Args([]string{"apt-get", "-y", "upgrade"}), llb.WithCustomName("upgrade")).Root()
	mounts := base.Run(
		llb.Args([]string{"x", "--flag", "ünicode"}),
		llb.AddEnv("A", "1"), llb.AddEnv("B", "two words"),
		llb.Dir("/srv"), llb.User("daemon"), llb.Hostname("builder"),
		llb.Network(llb.NetModeNone),
		llb.ValidExitCodes(0, 100),
		llb.WithProxy(llb.ProxyEnv{HTTPProxy: "http://p:1", NoProxy: "localhost"}),
		llb.AddMount("/bind", upgraded, llb.Readonly),
		llb.AddMount("/selected", base, llb.SourcePath("/etc"), llb.Readonly),
		llb.AddMount("/tmpfs", llb.Scratch(), llb.Tmpfs()),
		llb.AddMount("/small", llb.Scratch(), llb.Tmpfs(llb.TmpfsSize(4096))),
		llb.AddSecret("/run/optional", llb.SecretID("other"), llb.SecretOptional),
		llb.AddSecret("/run/secret", llb.SecretID("token"), llb.SecretFileOpt(0, 0, 0o440)),
	)
	outputs := base.Run(llb.Args([]string{"x"}))
	late := outputs.AddMount("/z", llb.Scratch())
	early := outputs.AddMount("/b", base)
	epoch := llb.WithCreatedTime(time.Unix(0, 0))
	owner := llb.WithUIDGID(0, 0)
	return map[string]llb.State{
		"image":            base,
		"image by digest":  llb.Image("docker.io/library/debian:12@" + digest.FromString("x").String()),
		"local":            llb.Local("debs", llb.SharedKeyHint("hint")),
		"layout":           llb.OCILayout("a.example/b@"+digest.FromString("x").String(), llb.OCIStore("", "store")),
		"exec":             upgraded,
		"exec with all":    mounts.Root(),
		"exec on nothing":  llb.Scratch().Run(llb.Args([]string{"/x"}), llb.AddMount("/bin", base, llb.Readonly)).Root(),
		"an output":        late,
		"another output":   early,
		"patch":            llb.Merge([]llb.State{base, llb.Diff(base, upgraded)}),
		"diff to nothing":  llb.Diff(base, llb.Scratch()),
		"diff and outputs": llb.Merge([]llb.State{base, late, llb.Diff(early, upgraded), base}),
		"files": base.File(llb.Mkdir("/d", 0o750, llb.WithParents(true), epoch, owner).
			Mkfile("/d/f", 0o644, []byte("text\x00\xff"), owner, epoch).
			Copy(upgraded, "/etc/passwd", "/d/", &llb.CopyInfo{CreateDestPath: true}).
			Copy(base, "/usr", "/u", &llb.CopyInfo{CopyDirContentsOnly: true, CreateDestPath: true})),
		"a file on nothing": llb.Scratch().File(llb.Mkfile("/f", 0o600, nil, owner, epoch)),
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
