package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/config"
)

func newFmt() *cobra.Command {
	var path string
	var write, check bool
	cmd := &cobra.Command{
		Use:   "fmt [-c] FILE|DIR... [-w | --check]",
		Short: "Print configurations in their usual form",
		Long: "Print configurations in their usual form: keys in the order of the reference, two spaces for each\n" +
			"level, texts with braces in quotes, units as they are usually written. Comments and empty lines stay.\n" +
			"The meaning never changes. What is not YAML is refused; any other mistake is for validate.\n\n" +
			"-w writes the files, --check names those that have another form and exits 1 if there is one.\n" +
			"A - is the standard input.",
		Example: "  sluice fmt -w sluice.yaml\n  sluice fmt --check deploy/examples/*.yaml",
		RunE: does(func(cmd *cobra.Command, args []string) error {
			if path != "" {
				args = append([]string{path}, args...)
			}
			if len(args) == 0 {
				return fmt.Errorf("%w: a file or folder is missing", errUsage)
			}
			files, err := readForms(cmd.InOrStdin(), args)
			if err != nil {
				return err
			}
			var result error
			for _, f := range files {
				switch {
				case check && f.changed():
					result = exitCode(1)
					_, err = fmt.Fprintln(cmd.OutOrStdout(), f.name)
				case check:
				case write && f.name != stdin:
					err = f.write()
				default:
					_, err = cmd.OutOrStdout().Write(f.usual)
				}
				if err != nil {
					return err
				}
			}
			return result
		}),
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "configuration: a file or a folder")
	cmd.Flags().BoolVarP(&write, "write", "w", false, "write the files")
	cmd.Flags().BoolVar(&check, "check", false,
		"write nothing; name the files that have another form, exit 1 if there is one")
	cmd.MarkFlagsMutuallyExclusive("write", "check")
	return cmd
}

// stdin stands for the standard input.
const stdin = "-"

// form is a file with its usual form.
type form struct {
	name        string
	text, usual []byte
}

func (f form) changed() bool { return !bytes.Equal(f.text, f.usual) }

// readForms reads all files and formats them, so that nothing is written when one of them is faulty.
func readForms(in io.Reader, args []string) ([]form, error) {
	var files []config.File
	for _, name := range args {
		if name == stdin {
			data, err := io.ReadAll(in)
			if err != nil {
				return nil, err
			}
			files = append(files, config.File{Name: stdin, Data: data})
			continue
		}
		list, err := config.ReadFiles(name)
		if err != nil {
			return nil, err
		}
		files = append(files, list...)
	}
	var forms []form
	var faults []config.Fault
	for _, f := range files {
		usual, err := config.Format(f.Name, f.Data)
		if err != nil {
			faults = append(faults, faultsIn(err)...)
		}
		forms = append(forms, form{f.Name, f.Data, usual})
	}
	if len(faults) > 0 {
		return nil, &config.FaultsError{Faults: faults}
	}
	return forms, nil
}

// write puts the usual form in place of the file as a whole: who reads it meanwhile has the one or the other.
func (f form) write() error {
	if !f.changed() {
		return nil
	}
	name, err := filepath.EvalSymlinks(f.name)
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	// Its name begins with a dot, so that it is no file of a folder that a gateway watches.
	to, err := os.CreateTemp(filepath.Dir(name), ".fmt-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(to.Name()) }() // of one that was renamed there is none
	_, err = to.Write(f.usual)
	if err == nil {
		err = to.Chmod(info.Mode().Perm())
	}
	if err == nil {
		err = to.Sync()
	}
	if closed := to.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(to.Name(), name)
	}
	return err
}
