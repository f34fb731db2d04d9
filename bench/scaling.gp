# Plots of one study from scaling.csv, called by bench/scaling:
#   gnuplot -e "folder='...'; study='strong'; machine='...'" scaling.gp
set terminal svg size 640,440 font "sans-serif,13" background "white"
set datafile separator ","
set key autotitle columnhead top left
table = folder."/scaling.csv"
set grid y lc rgb "#dddddd"
set border 3
set tics nomirror out
own(x) = strcol("study") eq study ? x : NaN
fair(x) = strcol("study") eq study && column("oversubscribed") == 0 ? x : NaN
shared(x) = strcol("study") eq study && column("oversubscribed") == 1 ? x : NaN
stats table using (own(column("ranks"))) name "R" nooutput
set label 1 machine at graph 0, screen 0.02 font ",10" textcolor rgb "#666666"
set bmargin 4.5
set xlabel "ranks"

set logscale xy 2
set xrange [R_min / 1.2 : R_max * 1.2]
set output folder."/".study."-speedup.svg"
set title study." scaling: speed-up (bars: quartiles)"
plot x title "ideal" with lines lc rgb "#999999" dt 2, \
     table using (own(column("ranks"))):(column("speedup")) title "" with lines lc rgb "#0060a8", \
     "" using (fair(column("ranks"))):(column("speedup")):(column("speedup") * column("wall_median") / column("wall_q3")):(column("speedup") * column("wall_median") / column("wall_q1")) \
        title "measured" with yerrorbars lc rgb "#0060a8" pt 7, \
     "" using (shared(column("ranks"))):(column("speedup")):(column("speedup") * column("wall_median") / column("wall_q3")):(column("speedup") * column("wall_median") / column("wall_q1")) \
        title "more threads than cores" with yerrorbars lc rgb "#0060a8" pt 6

unset logscale y
set output folder."/".study."-efficiency.svg"
set title study." scaling: efficiency"
set yrange [0 : 1.2]
set key bottom left
plot 1 title "" with lines lc rgb "#999999" dt 2, \
     table using (own(column("ranks"))):(column("efficiency")) title "efficiency (speed-up / ranks)" with lines lc rgb "#0060a8", \
     "" using (fair(column("ranks"))):(column("efficiency")) title "" with points lc rgb "#0060a8" pt 7, \
     "" using (shared(column("ranks"))):(column("efficiency")) title "  more threads than cores" with points lc rgb "#0060a8" pt 6, \
     "" using (own(column("ranks"))):(column("load_balance")) title "load balance" with linespoints lc rgb "#c05000" pt 5, \
     "" using (own(column("ranks"))):(column("communication_efficiency")) title "communication efficiency" with linespoints lc rgb "#208040" pt 9

unset logscale
set output folder."/".study."-phases.svg"
set title study." scaling: where the time goes (median sample, mean over ranks)"
set ylabel "share of the wall time"
set xrange [*:*]
set yrange [0 : 1]
set key outside right top Left reverse
set style data histograms
set style histogram rowstacked
set style fill solid 0.9 border -1
set boxwidth 0.7
all(x) = x / (column("compute") + column("wait") + column("finish") + column("other"))
rows = "< awk -F, 'NR == 1 || $1 == \"".study."\"' '".table."'"
name(r) = sprintf("%d%s", r, column("oversubscribed") == 1 ? " *" : "")
set xlabel "ranks (* more threads than cores)"
plot rows using (all(column("compute"))):xtic(name(column("ranks"))) title "compute" lc rgb "#0060a8", \
     "" using (all(column("wait"))) title "wait" lc rgb "#c05000", \
     "" using (all(column("finish"))) title "finish" lc rgb "#208040", \
     "" using (all(column("other"))) title "other" lc rgb "#bbbbbb"
