// Scores every slide of a folder, one task a slide, and joins their tables.
//
//   nextflow run main.nf --slides 'slides/*.svs' --model context-demo
//
// A task that is repeated starts in a new folder, but encodes nothing again: features are in the
// cache, which all tasks share. On a cluster, name one that all its machines see.

params.slides = 'slides/*.{svs,tif,tiff,ndpi,scn,bif}'
params.model = 'context-demo'
params.out = 'results'
params.cache = "${launchDir}/cache"

process SCORE {
    tag "${slide.baseName}"
    cpus 2
    memory '4 GB'
    publishDir params.out, mode: 'copy'
    // 5: no space, 130 and 143: interrupted. 2 is a mistake in the call: all tasks would make it.
    errorStrategy { task.exitStatus in [5, 130, 143] && task.attempt < 3 ? 'retry' : 'terminate' }

    input:
    path slide

    output:
    path "${slide.baseName}", emit: run
    path "${slide.baseName}/slides.csv", emit: table

    // 3: the slide is unreadable, which its row in slides.csv says.
    script:
    """
    export NAPARI_XT_CACHE='${params.cache}'
    napari-xt score '${slide}' --model '${params.model}' --out '${slide.baseName}' \\
        --workers ${task.cpus} --offline --json > score.json || [ \$? -eq 3 ]
    """
}

workflow {
    SCORE(Channel.fromPath(params.slides, checkIfExists: true))
    SCORE.out.table.collectFile(name: 'slides.csv', storeDir: params.out, keepHeader: true)
}
