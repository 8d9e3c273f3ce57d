// SPDX-License-Identifier: Apache-2.0

// Reads archives, each behind a line with its size, and prints what is in each as a line of JSON: null when it is refused.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

const xattr = "SCHILY.xattr."

func entries(data []byte) [][]any {
	found := [][]any{}
	reader := tar.NewReader(bytes.NewReader(data))
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return found
		}
		if err != nil {
			return nil
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			return nil
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		attributes := map[string][]int{}
		for name, value := range header.PAXRecords {
			if strings.HasPrefix(name, xattr) {
				numbers := []int{}
				for _, one := range []byte(value) {
					numbers = append(numbers, int(one))
				}
				attributes[name[len(xattr):]] = numbers
			}
		}
		found = append(found, []any{
			fmt.Sprintf("%x", header.Name), string(rune(header.Typeflag)), header.Mode & 0o7777, header.Uid, header.Gid,
			header.ModTime.Unix(), fmt.Sprintf("%x", header.Linkname), fmt.Sprintf("%x", content), attributes,
		})
	}
}

func main() {
	input := bufio.NewReader(os.Stdin)
	output := json.NewEncoder(os.Stdout)
	for {
		var size int
		if _, err := fmt.Fscanf(input, "%d\n", &size); err != nil {
			return
		}
		data := make([]byte, size)
		if _, err := io.ReadFull(input, data); err != nil {
			panic(err)
		}
		if err := output.Encode(entries(data)); err != nil {
			panic(err)
		}
	}
}
