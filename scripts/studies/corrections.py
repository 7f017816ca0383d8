"""Corrections of a mask that is there: the network's whole answer, or the pieces of it that hold a click?

    .venv/bin/python scripts/studies/corrections.py OUT.json SET...

out/manifests holds SET.json for every set (`medsam data recipe --all`). Of up to four structures of two cases a set, on the
slice with the largest area, a fault is put into the reference: a part cut off, a part too much, or the mask of two slices on.
Three clicks, each the one that `next_click` makes. "enforce" moves the mask near the clicks alone, "local open" cuts
thin bridges first.

Measured 2026-11-29 on totalseg_abdomen_mr, brain_tumour_mr, liver_ct_dicom_seg, sts_sarcoma_dicom_rtstruct,
lung_ct_dicom_rtstruct and totalseg_abdomen_ct. Results: docs/session.md.
Frozen: not linted and not kept up to date. What became of "local" (`prompts.standing`) also keeps apart what is added
and what is taken away.
"""

import json, sys, time, zlib
from pathlib import Path
import numpy as np
from scipy import ndimage
from medsam import Predictor, Prompt
from medsam.data.manifest_json import read_manifest
from medsam.inference.segment_slice import segment_slice
from medsam.inference.clicks import enforce_clicks
from medsam.prompts.plan import plan
from medsam.prompts.prompt import pixel_at
from medsam.prompts.simulate import next_click, tight_box
MANIFESTS = Path("out/manifests")
def dice(a,b): return 2*np.count_nonzero(a&b)/max(1,np.count_nonzero(a)+np.count_nonzero(b))
def local(start,found,points,structure=None):
    pieces,_=ndimage.label(start^found,structure)
    hit={pieces[pixel_at(p[:2],start.shape)] for p in points}-{0}
    return start^np.isin(pieces,list(hit))
def local_open(start,found,points):
    # cut thin bridges: components of the opened difference that hold a click, grown back within the difference
    diff=start^found
    r=1
    core=ndimage.binary_opening(diff,np.ones((3,3)))
    pieces,n=ndimage.label(core)
    out=np.zeros_like(diff)
    dist,idx=ndimage.distance_transform_edt(pieces==0,return_indices=True)
    near=pieces[tuple(idx)] if n else pieces
    hit=set()
    plain,_=ndimage.label(diff)
    for p in points:
        at=pixel_at(p[:2],diff.shape)
        if not diff[at]: continue
        if n and dist[at]<=1.5: hit.add(near[at])
        else: out|=plain==plain[at] if n==0 else np.zeros_like(diff)
        out[at]=True
    out|=diff&np.isin(near,list(hit))&(dist<=1.5)
    return start^out
def faults(ref,plane,index,rng):
    mask=plane.take(ref,index)
    area=np.count_nonzero(mask)
    for step in (2,-2):
        if 0<=index+step<plane.count:
            other=plane.take(ref,index+step)
            if other.any() and 0.5<dice(other,mask)<0.98: yield "neighbour",other.copy(); break
    y,x=np.nonzero(mask); a=rng.uniform(0,2*np.pi); proj=x*np.cos(a)+y*np.sin(a); cut=np.quantile(proj,.7)
    m=mask.copy(); m[y[proj>cut],x[proj>cut]]=False; yield "cut",m
    edge=np.argwhere(mask&~ndimage.binary_erosion(mask)); c=edge[rng.integers(len(edge))]
    r=0.35*np.sqrt(area); Y,X=np.ogrid[:mask.shape[0],:mask.shape[1]]
    yield "spill",mask|((Y-c[0])**2+(X-c[1])**2<=r*r)
P=Predictor("litemedsam"); rows=[]; t0=time.time()
for s in sys.argv[2:]:
    for case in read_manifest(MANIFESTS / f"{s}.json").cases[:2]:
        scan=case.load_image(); refs=case.load_references(scan)
        enc=P.encoder_for(scan); plane=enc.plane
        for name in sorted(refs,key=lambda n:zlib.crc32(n.encode()))[:4]:
            ref=refs[name]; others=tuple(n for n in range(3) if n!=plane.array_axis); areas=ref.sum(axis=others)
            if areas.max()<60: continue
            index=int(areas.argmax()); truth=plane.take(ref,index); rng=np.random.default_rng(zlib.crc32((s+name).encode()))
            for fault,start in faults(ref,plane,index,rng):
                row={"set":s,"name":name,"fault":fault,"start":dice(start,truth)}
                for way in ("as found","local","local open","enforce"):
                    now=start; pts=[]
                    for n in range(1,4):
                        click=next_click(truth,now)
                        if click is None: row[f"{way} {n}"]=dice(now,truth); continue
                        pts=[p for p in pts if p[:2]!=click[:2]]+[tuple(click)]
                        if way=="enforce":
                            lg=enforce_clicks(np.where(start,1.,-1.).astype(np.float32),pts,tight_box(start|(now),1),enc.pixels(index),plane); now=lg>0
                        else:
                            todo=plan([Prompt("a",slice=index,mask=start,points=tuple(pts))],scan.geometry,plane.axis)
                            (res,)=segment_slice(enc,index,todo.slices[index])
                            now={"as found":lambda:res.mask,"local":lambda:local(start,res.mask,pts),"local open":lambda:local_open(start,res.mask,pts)}[way]()
                        row[f"{way} {n}"]=dice(now,truth)
                rows.append(row)
        print(s,case.id,len(rows),f"{time.time()-t0:.0f}",flush=True)
        json.dump(rows,open(sys.argv[1],"w"))
keys=[k for k in rows[0] if k not in("set","name","fault")]
for f in ("neighbour","cut","spill"):
    some=[r for r in rows if r["fault"]==f]
    print(f,len(some),{k:round(float(np.mean([r[k] for r in some])),3) for k in keys})
