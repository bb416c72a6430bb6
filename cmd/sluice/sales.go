package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/admin/adminclient"
)

// saleRow is a sale as the status of a gateway shows it.
type saleRow struct {
	Items []struct {
		Item                                                 string
		Total, Taken, Reserved, Confirmed, Unknown, Returned int
		SoldOut                                              bool `json:"sold_out"`
	}
	WaitingRoom *struct {
		Opened                     bool
		Waiting, Serving, Admitted int64
		Estimate                   float64 `json:"estimate_seconds"`
		Failing                    bool    `json:"store_failing"`
	} `json:"waiting_room"`
}

func newSales() *cobra.Command {
	client := new(adminclient.Client)
	output := new(string)
	cmd := &cobra.Command{
		Use:   "sales [NAME]",
		Short: "Show how the sales of a running gateway stand: units, waiting rooms",
		Long: "Show how the sales of a running gateway stand: units, waiting rooms.\n\n" +
			"The numbers are those of the whole fleet, as old as this gateway's last look at the store.",
		SuggestFor: []string{"sale", "stock", "flash-sale"},
		Args:       cobra.MaximumNArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(*output); err != nil {
				return err
			}
			sales, err := salesOf(cmd, client)
			if err != nil {
				return err
			}
			names := slices.Sorted(maps.Keys(sales))
			if len(args) > 0 {
				if !slices.Contains(names, args[0]) {
					return fmt.Errorf("the configuration in force has no sale %q%s", args[0],
						config.Suggestion(args[0], names))
				}
				names = args
			}
			if *output == "json" {
				return writeSalesJSON(cmd, sales, names)
			}
			return writeSales(cmd, sales, names)
		}),
	}
	addAdminFlags(cmd, client)
	addOutputFlag(cmd, output)
	return cmd
}

// salesOf returns the sales of a gateway's status.
func salesOf(cmd *cobra.Command, client *adminclient.Client) (map[string]json.RawMessage, error) {
	body, err := client.Status(cmd.Context())
	if err != nil {
		return nil, adminError(err)
	}
	var status struct{ Sales map[string]json.RawMessage }
	if err := json.Unmarshal(body, &status); err != nil {
		return nil, fmt.Errorf("the response of the gateway: %w", err)
	}
	return status.Sales, nil
}

func writeSalesJSON(cmd *cobra.Command, sales map[string]json.RawMessage, names []string) error {
	shown := map[string]json.RawMessage{}
	for _, name := range names {
		shown[name] = sales[name]
	}
	body, err := json.Marshal(map[string]any{"sales": shown})
	return printResponse(cmd, body, err)
}

func writeSales(cmd *cobra.Command, sales map[string]json.RawMessage, names []string) error {
	if len(names) == 0 {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "the configuration in force has no sale")
		return err
	}
	var items, rooms [][]string
	for _, name := range names {
		var s saleRow
		if err := json.Unmarshal(sales[name], &s); err != nil {
			return fmt.Errorf("the response of the gateway: %w", err)
		}
		for _, i := range s.Items {
			row := []string{name, i.Item}
			for _, n := range []int{i.Total, i.Taken, i.Reserved, i.Confirmed, i.Unknown, i.Returned} {
				row = append(row, strconv.Itoa(n))
			}
			items = append(items, append(row, yesOrNo(i.SoldOut)))
		}
		if r := s.WaitingRoom; r != nil {
			rooms = append(rooms, []string{name, yesOrNo(r.Opened), fmt.Sprint(r.Waiting), fmt.Sprint(r.Serving),
				fmt.Sprint(r.Admitted), fmt.Sprintf("%.0fs", r.Estimate), yesOrNo(r.Failing)})
		}
	}
	w := cmd.OutOrStdout()
	err := newTable(w, "SALE", "ITEM", "TOTAL", "TAKEN", "RESERVED", "CONFIRMED", "UNKNOWN", "RETURNED",
		"SOLD OUT").write(items)
	if err != nil || len(rooms) == 0 {
		return err
	}
	if _, err = fmt.Fprintln(w); err == nil {
		err = newTable(w, "WAITING ROOM", "OPENED", "WAITING", "SERVING", "ADMITTED", "WAIT NOW",
			"STORE FAILS").write(rooms)
	}
	return err
}

func yesOrNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
