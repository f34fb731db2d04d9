# Plots of one platform from simulate.csv, called by bench/simulate/simulate:
#   gnuplot -e "folder='...'; platform='fat-tree'; what='...'" simulate.gp
set terminal svg size 640,440 font "sans-serif,13" background "white"
set datafile separator ","
table = folder."/simulate.csv"
rows = "< awk -F, 'NR == 1 || $1 == \"".platform."\"' '".table."'"
set key autotitle columnhead
set grid y lc rgb "#dddddd"
set border 3
set tics nomirror out
stats rows using (column("ranks")) name "R" nooutput
set label 1 what at graph 0, screen 0.02 font ",10" textcolor rgb "#666666"
set bmargin 4.5
set xlabel "ranks"
set logscale x 2
set xrange [R_min / 1.2 : R_max * 1.2]

set output folder."/".platform."-time.svg"
set title "predicted, not measured: time on a simulated ".platform
set ylabel "seconds, predicted"
set logscale y
set key top right
plot rows using "ranks":"predicted_wall_none":"predicted_wall_full" title "between none and full overlap" with filledcurves \
        fc rgb "#b0d0f0", \
     "" using "ranks":"predicted_wall_none" title "no overlap" with linespoints lc rgb "#c05000" pt 7, \
     "" using "ranks":"predicted_wall_full" title "full overlap" with linespoints lc rgb "#0060a8" pt 7, \
     "" using "ranks":"predicted_wall_planner" title "longspan plan" with linespoints lc rgb "#208040" pt 9 dt 2

unset logscale y
set output folder."/".platform."-efficiency.svg"
set title "predicted, not measured: efficiency on a simulated ".platform
set ylabel "compute / wall, predicted"
set yrange [0 : 1.1]
set key bottom left
plot 1 title "" with lines lc rgb "#999999" dt 2, \
     rows using "ranks":"predicted_efficiency_none":"predicted_efficiency_full" title "between none and full overlap" \
        with filledcurves fc rgb "#b0d0f0", \
     "" using "ranks":"predicted_efficiency_none" title "no overlap" with linespoints lc rgb "#c05000" pt 7, \
     "" using "ranks":"predicted_efficiency_full" title "full overlap" with linespoints lc rgb "#0060a8" pt 7
